"""Hash a file with SHA-256 while it is downloaded: a thread follows the contiguous part.

It reads the bytes back from the file (from memory, they were just written), so that what is hashed is what the file
holds, whoever wrote it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import threading
from typing import TYPE_CHECKING

from gesso.models.faults import cut_off
from gesso.models.net.limits import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.models.download.journal import Partial

_CHUNK = 512 << 10
_FLUSH = 32 << 20  # bytes after which the kernel is told to start writeback
_POLL = 0.1  # seconds
_START_WRITING = 2  # SYNC_FILE_RANGE_WRITE


class Follower:
    """Hashes the contiguous part of a partial file. Call `nudge` when blocks have arrived."""

    def __init__(self, partial: Partial) -> None:
        self._partial = partial
        self._news = threading.Event()
        self._ended = False
        self._error: OSError | None = None
        self.hashed = 0  # bytes
        self._digest = hashlib.sha256()
        self._flushed = 0
        self._thread = threading.Thread(target=self._run, name="hash", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """Wake the thread: there may be more to hash."""
        self._news.set()

    def digest(self, stopped: Callable[[], bool] = lambda: False) -> str:
        """Wait until the whole file is hashed. Raises OSError where it cannot be read, SourceError where `stopped`."""
        self.nudge()
        while self._thread.is_alive() and not stopped():
            self._thread.join(_POLL)
        if stopped():
            raise cut_off("stopped")
        if self._error is not None:
            raise self._error
        assert self.hashed == self._partial.size
        return self._digest.hexdigest()

    def close(self) -> None:
        """Stop hashing."""
        self._ended = True
        self.nudge()
        self._thread.join()

    def _run(self) -> None:
        buffer = bytearray(_CHUNK)
        view = memoryview(buffer)
        try:
            while not self._ended and self.hashed < self._partial.size:
                self._news.clear()
                front = self._front()
                while self.hashed < front and not self._ended:
                    want = min(_CHUNK, front - self.hashed)
                    count = os.preadv(self._partial.fd, [view[:want]], self.hashed)
                    if count == 0:
                        raise OSError(5, "the partial file was truncated while it was read")
                    self._digest.update(view[:count])
                    self.hashed += count
                    if self.hashed - self._flushed >= _FLUSH:
                        _begin_writing(self._partial.fd, self._flushed, self.hashed - self._flushed)
                        self._flushed = self.hashed
                if self.hashed < self._partial.size and not self._ended:
                    self._news.wait()
        except OSError as error:
            self._error = error

    def _front(self) -> int:
        done = self._partial.done
        assert done is not None
        block = done.find(0, self.hashed // BLOCK)
        return self._partial.size if block < 0 else block * BLOCK


def _begin_writing(handle: int, offset: int, length: int) -> None:
    """Start writeback without waiting, so that the fsync at the end has little to do."""
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    call(handle, offset, length, _START_WRITING)
