"""Damages to a partial file and its journal between two runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gesso.models.download import journal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .rounds import Target


def _blocks(at: Target) -> int:
    return -(-len(at.data) // at.block)


def interrupted(at: Target, blocks: tuple[int, ...] = (0, 1, 3)) -> None:
    """Write what a killed run leaves: these blocks, and a journal that marks them."""
    partial = journal.Partial(at.partial, at.journal, sha256=at.model.sha256, size=len(at.data))
    for block in blocks:
        first, end = partial.bounds(block)
        partial.write(first, memoryview(at.data)[first:end])
        partial.mark(block)
    partial.close()


def _write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _zero_the_first_block(at: Target) -> None:
    _write(at.partial, 0, bytes(at.block))


def _zero_a_block(at: Target) -> None:
    _write(at.partial, 3 * at.block, bytes(at.block))


def _mark_all_blocks(at: Target) -> None:
    _write(at.journal, 4096, b"\1" * _blocks(at))


def _mark_all_of_zeros(at: Target) -> None:
    _mark_all_blocks(at)
    at.partial.write_bytes(bytes(len(at.data)))


def _other_bytes(at: Target) -> None:
    _mark_all_blocks(at)
    at.partial.write_bytes(bytes(reversed(at.data)))


def _other_lock(at: Target) -> None:
    head = at.journal.read_bytes()
    at.journal.write_bytes(head.replace(at.model.sha256.encode(), b"ab" * 32))


def _invalid_marks(at: Target) -> None:
    _write(at.journal, 4096, bytes([2, 255, 0, 128, 9, 3]))


DAMAGES: dict[str, Callable[[Target], object]] = {
    "nothing": lambda _: None,
    "no journal": lambda at: at.journal.unlink(),
    "no partial file": lambda at: at.partial.unlink(),
    "a journal cut in its head": lambda at: os.truncate(at.journal, 100),
    "a journal cut in its marks": lambda at: os.truncate(at.journal, 4098),
    "an empty journal": lambda at: os.truncate(at.journal, 0),
    "a journal of zeros": lambda at: at.journal.write_bytes(bytes(4096 + _blocks(at))),
    "a journal of noise": lambda at: at.journal.write_bytes(os.urandom(4096 + _blocks(at))),
    "a longer journal": lambda at: os.truncate(at.journal, 9000),
    "a journal of another lock": _other_lock,
    "marks that mean nothing": _invalid_marks,
    "a cut partial file": lambda at: os.truncate(at.partial, at.block),
    "a longer partial file": lambda at: os.truncate(at.partial, 7 * at.block),
    "a power cut: the first block is zeros": _zero_the_first_block,
    "a power cut: a block is zeros": _zero_a_block,
    "a power cut: all is said to be there": _mark_all_blocks,
    "a power cut: all is said to be there, and zeros": _mark_all_of_zeros,
    "other bytes": _other_bytes,
}
