"""A receipt says: these bytes were hashed, and the file looked so then. Without a valid one a file is never trusted.

What a file looks like is its size, times and inode. ctime is among them, for mtime can be set to anything: a file that
was written to, renamed or replaced has another one.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gesso.models.folder import Folder

_FORMAT = 1


def looks(stat: os.stat_result) -> dict[str, int]:
    """Give what identifies the state of a file without reading it (nanoseconds, bytes)."""
    return {
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
        "inode": stat.st_ino,
    }


def holds(folder: Folder, name: str, sha256: str) -> bool:
    """Tell whether the file at the final path is, by its receipt, the one with this sha256."""
    try:
        receipt: Any = json.loads(folder.receipt(name).read_bytes())
        found = looks(folder.path(name).stat())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(receipt, dict) and receipt == receipt | {"format": _FORMAT, "sha256": sha256, **found}


def write(folder: Folder, name: str, sha256: str, stat: os.stat_result) -> bool:
    """Write the receipt of a file that was hashed while it looked like `stat`.

    False where it cannot be kept (a read-only volume): the next check then hashes the file again.
    """
    path = folder.receipt(name)
    text = json.dumps({"format": _FORMAT, "name": name, "sha256": sha256, **looks(stat), "verified": int(time.time())})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                os.fchmod(handle, 0o644)  # another user of the volume may believe it, too
                file.write(text)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError:
        return False
    return True


def forget(folder: Folder, name: str) -> None:
    """Take a receipt away."""
    with contextlib.suppress(OSError):
        folder.receipt(name).unlink(missing_ok=True)
