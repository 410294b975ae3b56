"""A partial file and its journal of complete blocks: a download resumes from them, even after a kill -9.

The journal is a page with what the file is to become, then one byte a block. A block's byte is set after its data was
written, by one write of one byte: there is no moment at which the journal says too much while this kernel lives. After
a power cut it may; then the hash over the whole file, which is always taken, does not come out, and all is fetched
anew.

One process at a time fills it: that is what the model's lock is for. Where locks are not real (some network
filesystems, two machines on one volume) the last to open it owns it: its mark is in the journal, and whoever finds
another's there writes no more, for the file may be visible under its final name by then.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import secrets
import threading
from typing import TYPE_CHECKING

from gesso import small_files
from gesso.models.net.limits import BLOCK

if TYPE_CHECKING:
    from pathlib import Path

_PAGE = 4096
_DONE = b"\x01"
_OWNER = 2048  # where in the page the owner's mark is
_OWNER_SIZE = 32


class Partial:
    """A partial file. Threads may write to different blocks at the same time."""

    def __init__(self, path: Path, journal: Path, *, sha256: str, size: int) -> None:
        """Open, and resume if the existing partial file is for the same bytes. Raises OSError."""
        self.path, self.journal_path, self.size = path, journal, size
        self.blocks = -(-size // BLOCK)
        self._head = json.dumps({"format": 1, "sha256": sha256, "size": size, "block": BLOCK}).encode().ljust(_PAGE)
        self._owner = secrets.token_bytes(_OWNER_SIZE)
        self._guard = threading.Lock()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        path.parent.mkdir(parents=True, exist_ok=True)
        self.fd = os.open(path, flags, 0o644)
        try:
            self._journal = os.open(journal, flags, 0o644)
        except OSError:
            os.close(self.fd)
            raise
        try:
            self.done = self._resumed()
            if self.done is None:
                self.done = bytearray(self.blocks)
                self._begin()
            else:
                os.pwrite(self._journal, self._owner, _OWNER)
        except BaseException:
            self.close()
            raise
        self.resumed = sum(self.done)  # blocks

    done: bytearray | None  # one byte a block

    def _resumed(self) -> bytearray | None:
        text = os.pread(self._journal, _PAGE + self.blocks + 1, 0)
        head = text[:_OWNER] + self._head[_OWNER : _OWNER + _OWNER_SIZE] + text[_OWNER + _OWNER_SIZE : _PAGE]
        whole = head == self._head and len(text) == _PAGE + self.blocks
        if not whole or os.fstat(self.fd).st_size != self.size:
            return None
        return bytearray(byte == 1 for byte in text[_PAGE:])

    def _begin(self) -> None:
        """Allocate the space, then start an empty journal."""
        os.ftruncate(self._journal, 0)
        os.ftruncate(self.fd, 0)
        try:
            set_aside(self.fd, self.size)
        except OSError:
            self.discard()  # it may have taken all that was left
            raise
        head = self._head[:_OWNER] + self._owner + self._head[_OWNER + _OWNER_SIZE :]
        os.pwrite(self._journal, head + bytes(self.blocks), 0)

    def _must_be_ours(self) -> None:
        if os.pread(self._journal, _OWNER_SIZE, _OWNER) != self._owner:
            raise OSError(errno.EBUSY, "another process has taken over its partial file")

    def start_over(self) -> None:
        """Forget every block. Raises OSError."""
        with self._guard:
            self.done = bytearray(self.blocks)
            self.resumed = 0
            self._begin()

    def write(self, offset: int, data: memoryview) -> None:
        """Write at `offset`. Raises OSError."""
        self._must_be_ours()
        while data:
            count = os.pwrite(self.fd, data, offset)
            offset += count
            data = data[count:]

    def mark(self, block: int) -> None:
        """Mark a block as complete. Raises OSError."""
        self._must_be_ours()
        os.pwrite(self._journal, _DONE, _PAGE + block)
        assert self.done is not None
        self.done[block] = 1

    def bounds(self, block: int) -> tuple[int, int]:
        """First byte of a block, and the one after its last."""
        return block * BLOCK, min((block + 1) * BLOCK, self.size)

    def missing(self) -> list[tuple[int, int]]:
        """Return the ranges of missing blocks: first, and the one after the last."""
        runs, at, done = [], 0, bytes(self.done or b"")
        while (start := done.find(b"\0", at)) >= 0:
            at = done.find(b"\1", start)
            at = len(done) if at < 0 else at
            runs.append((start, at))
        return runs

    def has(self, start: int, end: int) -> bool:
        """Return whether the bytes from `start` to before `end` are complete."""
        assert self.done is not None
        return all(self.done[start // BLOCK : -(-end // BLOCK)])

    @property
    def bytes_done(self) -> int:
        """The number of complete bytes."""
        assert self.done is not None
        count = sum(self.done)
        short = self.blocks * BLOCK - self.size if self.done and self.done[-1] else 0
        return count * BLOCK - short

    def settle(self) -> None:
        """Let the disk keep it, as the last step before it may be seen.

        Raises OSError. Where the disk did not take it nothing of it is trusted any more: the kernel may give bytes
        back for a while that were never written, and the next fsync says that all is well.
        """
        try:
            os.fsync(self.fd)
        except OSError:
            self.done = bytearray(self.blocks)
            os.ftruncate(self._journal, 0)
            raise
        self._must_be_ours()

    def close(self) -> None:
        """Close both files and keep them for the next run."""
        for handle in (self.fd, self._journal):
            with contextlib.suppress(OSError):
                os.close(handle)
        self.fd = self._journal = -1

    def discard(self) -> None:
        """Close and delete both files."""
        self.close()
        for path in (self.path, self.journal_path):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def set_aside(handle: int, size: int) -> None:
    """Allocate space, so that a full disk is detected before the first byte. Raises OSError.

    Not `posix_fallocate`: where a filesystem has no such thing, glibc's writes to every block instead.
    """
    if size == 0:
        return
    code = _fallocate(handle, size)
    if code in {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EINTR}:
        os.ftruncate(handle, size)
    elif code:
        raise OSError(code, os.strerror(code))


def _fallocate(handle: int, size: int) -> int:
    try:
        call = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return errno.ENOSYS
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return ctypes.get_errno() if call(handle, 0, 0, size) else 0


def resumable_size(path: Path, journal: Path, sha256: str) -> int | None:
    """Return the size for which an earlier run began a partial file; None if it cannot be resumed."""
    try:
        with small_files.open_regular(journal) as file:
            head = json.loads(file.read(_OWNER))
        size = head["size"]
        right = type(size) is int and size > 0 and head == {"format": 1, "sha256": sha256, "size": size, "block": BLOCK}
        whole = right and path.lstat().st_size == size and journal.lstat().st_size == _PAGE + -(-size // BLOCK)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return size if whole else None


def bytes_on_disk(path: Path, journal: Path, size: int) -> int:
    """Return the bytes on disk that a partial file already occupies."""
    try:
        return min(size, path.lstat().st_blocks * 512) if journal.is_file() else 0
    except OSError:
        return 0
