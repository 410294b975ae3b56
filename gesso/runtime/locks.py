"""Is somebody at work? Locks of the kernel's, which their holder keeps for as long as it lives, however it ends."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def taken(path: Path) -> bool:
    """Tell whether somebody holds the lock at `path`; where there is no such file, or we may not look, nobody does."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
