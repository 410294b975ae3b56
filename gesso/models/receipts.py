"""Receipts: the hash of a file and its stat at that time. A file without a valid receipt is never trusted.

The state of a file is its size, times and inode. ctime is included because mtime can be set to anything: a file that
was written to, renamed or replaced has another ctime.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso import small_files

if TYPE_CHECKING:
    from gesso.models.folder import Folder

_FORMAT = 1


def file_state(stat: os.stat_result) -> dict[str, int]:
    """Return the stat fields that identify a file's state without reading it (nanoseconds, bytes)."""
    return {
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
        "inode": stat.st_ino,
    }


def is_valid(folder: Folder, name: str, sha256: str) -> bool:
    """Return whether the receipt proves that the file at the final path has this sha256."""
    try:
        receipt: Any = small_files.read_json(folder.receipt(name))
        found = file_state(folder.path(name).stat())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(receipt, dict) and receipt == receipt | {"format": _FORMAT, "sha256": sha256, **found}


def write(folder: Folder, name: str, sha256: str, stat: os.stat_result) -> bool:
    """Write the receipt of a file that had the state `stat` while it was hashed.

    Return False where it cannot be written (a read-only volume): the next check then hashes the file again.
    """
    path = folder.receipt(name)
    text = json.dumps(
        {"format": _FORMAT, "name": name, "sha256": sha256, **file_state(stat), "verified": int(time.time())}
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                os.fchmod(handle, 0o644)  # other users of the volume may read it
                file.write(text)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError:
        return False
    return True


def delete(folder: Folder, name: str) -> None:
    """Delete a receipt."""
    with contextlib.suppress(OSError):
        folder.receipt(name).unlink(missing_ok=True)
