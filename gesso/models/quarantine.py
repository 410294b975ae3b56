"""Quarantine: bad files are moved there, not deleted, so that the evidence stays, up to a size limit."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from typing import TYPE_CHECKING

from gesso.models import receipts

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.models.folder import Folder

KEEP = 20 << 30  # bytes of bad files that are kept at most; the oldest go first
_LONGEST = 180  # of a name, as much as leaves room in a file name for when and why


def move(folder: Folder, name: str, why: str) -> Path:
    """Move a file (a link itself, not its target) to the quarantine and return its new path.

    Files are moved, never folders: ComfyUI drops node classes whose model folder vanishes. Raises OSError.
    """
    path = folder.path(name)
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(errno.EISDIR, "a folder is in its place", str(path))
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder.quarantine.mkdir(parents=True, exist_ok=True)
    names = (f"{stamp}{f'-{n}' * (n > 1)}.{why}.{name.replace('/', '--')[-_LONGEST:]}" for n in itertools.count(1))
    target = next(found for each in names if not os.path.lexists(found := folder.quarantine / each))
    receipts.delete(folder, name)
    try:
        path.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # That folder is a mount of its own: keep it there, under a name that ComfyUI does not list.
        target = path.with_name(f".{target.name}.quarantined")
        path.rename(target)
    trim(folder, KEEP)
    return target


def trim(folder: Folder, keep: int) -> int:
    """Delete the oldest files until at most `keep` bytes are left; return the number of bytes freed."""
    files = []
    with contextlib.suppress(OSError):
        for path in folder.quarantine.iterdir():
            with contextlib.suppress(OSError):
                files.append((path.name, path, path.lstat()))
    files.sort(key=lambda item: item[0])  # names begin with the time
    total = sum(found.st_blocks * 512 for _, _, found in files)
    freed = 0
    for _, path, found in files:
        if total - freed <= keep:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            freed += found.st_blocks * 512
    return freed
