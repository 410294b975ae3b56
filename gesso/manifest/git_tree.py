"""Git's tree ID of a folder: the builder records it for each node pack, and an instance compares with it."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOT_SOURCE = frozenset({"__pycache__", ".git"})


def tree_id(
    folder: Path,
    exclude: frozenset[str] = frozenset(),
    is_ignored: Callable[[str], bool] = NOT_SOURCE.__contains__,
) -> str | None:
    """Return git's tree ID of a folder's content; None for an empty folder, which git does not track.

    `exclude`: names at the top that do not count; `is_ignored`: tells whether a name does not count anywhere.
    Raises OSError if something cannot be read.
    """
    found = _tree_id(folder, exclude, is_ignored)
    return found.hex() if found is not None else None


def _tree_id(folder: Path, exclude: frozenset[str], is_ignored: Callable[[str], bool]) -> bytes | None:
    rows = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_ignored(entry.name) or entry.name in exclude:
                continue
            name = os.fsencode(entry.name)
            if entry.is_dir(follow_symlinks=False):
                inner = _tree_id(folder / entry.name, frozenset(), is_ignored)
                if inner is not None:
                    rows.append((name + b"/", b"40000 " + name + b"\0" + inner))
                continue
            if entry.is_symlink():
                mode, content = b"120000", os.fsencode((folder / entry.name).readlink())
            else:
                executable = entry.stat().st_mode & 0o100
                mode, content = b"100755" if executable else b"100644", (folder / entry.name).read_bytes()
            rows.append((name, mode + b" " + name + b"\0" + _id(b"blob", content)))
    return _id(b"tree", b"".join(row for _, row in sorted(rows))) if rows else None


def _id(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(b"%s %d\0" % (kind, len(content)) + content, usedforsecurity=False).digest()
