"""The scrub: hash every model's bytes repeatedly, very slowly, and only while ComfyUI is idle.

A file with the right size and times may still be corrupt: a failing disk, a partly restored volume.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
from typing import TYPE_CHECKING

from gesso.models import receipts

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from gesso.models.folder import Folder
    from gesso.runtime.watch.watched import WatchedModel

PASS_INTERVAL = 6 * 3600.0  # seconds between two passes
FIRST_DELAY = 60.0  # seconds before the first pass
RATE = 1_000_000  # bytes per second: 20 GB in one interval, a quarter of a percent of a core without SHA instructions
_BUFFER = 4 << 20  # bytes read at a time: each wakes the disk and this thread
_POLL_INTERVAL = 5.0  # seconds between two looks at the queue
_IDLE_CLASS = 3 << 13  # ioprio_set(2): IOPRIO_CLASS_IDLE
_WHO_THREAD = 1
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}


class Scrub:
    """The scrub loop. `on_damaged` gets the name of a model whose bytes do not match its receipt."""

    def __init__(
        self, models: Sequence[WatchedModel], folder: Folder, on_damaged: Callable[[str], None],
        is_idle: Callable[[], bool] = lambda: True, rate: int = RATE,
    ) -> None:  # fmt: skip
        self._models, self._folder, self._rate = models, folder, rate
        self._on_damaged, self._is_idle = on_damaged, is_idle
        self._buffer = bytearray()

    def run(self, stop: threading.Event) -> None:
        """Scrub until `stop` is set. ComfyUI's own reads of the disk come first."""
        _read_when_idle()
        pause = FIRST_DELAY
        while not stop.wait(pause):
            self.once(stop)
            pause = PASS_INTERVAL

    def once(self, stop: threading.Event) -> None:
        """Hash every model with a receipt once; the others are being checked or fetched anyway."""
        for model in self._models:
            with contextlib.suppress(OSError):  # deleted meanwhile: model_sync notices
                self._one(model, stop)

    def _one(self, model: WatchedModel, stop: threading.Event) -> None:
        if not receipts.is_valid(self._folder, model.name, model.sha256):
            return
        handle = os.open(self._folder.path(model.name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            before, digest = receipts.file_state(os.fstat(handle)), self._hash(handle, stop)
            if receipts.file_state(os.fstat(handle)) != before or stop.is_set() or digest == model.sha256:
                return
        finally:
            os.close(handle)
        receipts.delete(self._folder, model.name)
        self._on_damaged(model.name)

    def _hash(self, handle: int, stop: threading.Event) -> str:
        digest, at, size = hashlib.sha256(), 0, os.fstat(handle).st_size
        self._buffer = bytearray(min(_BUFFER, max(1, size)))
        view = memoryview(self._buffer)
        while not stop.is_set():
            while not self._is_idle() and not stop.wait(_POLL_INTERVAL):
                pass
            try:
                read = os.preadv(handle, [view], at)
            except OSError:  # an unreadable file is damaged
                return ""
            if not read:
                break
            digest.update(view[:read])
            at += read
            stop.wait(read / self._rate)
        return digest.hexdigest()


def _read_when_idle() -> None:
    """Let the disk serve this thread only when nobody else wants it; where the kernel cannot, it is slow anyway."""
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, _WHO_THREAD, 0, _IDLE_CLASS)
