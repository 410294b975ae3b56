"""A fingerprint of files by what the kernel says about them: whether anything was touched since the last look.

Writing to a file, replacing it, or changing its mode changes its ctime, which no program can set (inode(7)).
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SKIP = frozenset({"__pycache__", ".git"})


def of(paths: Iterable[Path]) -> bytes:
    """Return the fingerprint of files and folders, with everything below them; a missing one is part of it."""
    digest = hashlib.blake2b()
    for path in paths:
        _add(os.fspath(path), digest)
    return digest.digest()


def _add(path: str, digest: hashlib.blake2b) -> None:
    try:
        row = os.lstat(path)
    except OSError as error:
        digest.update(f"{path}\0{error.errno}\n".encode("utf-8", "surrogateescape"))
        return
    folder = stat.S_ISDIR(row.st_mode)
    digest.update(
        f"{path}\0{row.st_ino} {row.st_mode} {row.st_size} {row.st_mtime_ns} {row.st_ctime_ns}\n".encode(
            "utf-8", "surrogateescape"
        )
    )
    if folder:
        try:
            names = sorted(entry.name for entry in os.scandir(path))
        except OSError:
            return
        for name in names:
            if name not in _SKIP:
                _add(f"{path}/{name}", digest)
