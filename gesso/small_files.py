"""Read small files that anybody may have damaged: a pipe must not block, a device must not fill the memory."""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 64 << 20  # bytes


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. Raises OSError, also for anything but a regular file."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(handle, "rb")


def read(path: Path, limit: int = LIMIT) -> bytes:
    """Return a file's bytes. Raises OSError as `open_regular` does, and for a file that is larger than `limit`."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, "larger than expected", str(path))
    return data


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Raises OSError as `read` does, ValueError if it is not JSON, or too nested."""
    try:
        return json.loads(read(path))
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply") from None
