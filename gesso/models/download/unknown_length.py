"""Receive a body of unknown length, which neither lock nor server states: small files, in one stream."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from gesso.models.faults import ContentError
from gesso.models.net.limits import BLOCK
from gesso.models.net.source import Pulse

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.models.net.source import Source

MOST = 1 << 30  # bytes; what is larger has a size in its lock, if only a hint
_LEAVE_FREE = 64 << 20


def receive_unmeasured(found: Source, handle: int, on_progress: Callable[[int], None], *, hint: int = 0) -> str:
    """Write the body to an open, empty file, and return its SHA-256; `hint` is the lock's unconfirmed size, or 0.

    Raises ContentError where it does not end within bounds, SourceError, OSError.
    """
    disk = os.fstatvfs(handle)
    most = min(max(MOST, 2 * hint), disk.f_bavail * disk.f_frsize - _LEAVE_FREE)
    digest = hashlib.sha256(found.head)
    done = _write(handle, memoryview(found.head))
    buffer, pulse = memoryview(bytearray(BLOCK)), Pulse(found.wire.stall)
    while count := found.wire.read_into(buffer):
        digest.update(buffer[:count])
        done += _write(handle, buffer[:count])
        pulse.beat(count)
        on_progress(done)
        if done > most:
            step = "give its size in the manifest"
            raise ContentError("oversized", f"no end after {done:,} bytes, and nobody says how long it is", step)
    return digest.hexdigest()


def _write(handle: int, data: memoryview) -> int:
    done = 0
    while done < len(data):
        done += os.write(handle, data[done:])
    return done
