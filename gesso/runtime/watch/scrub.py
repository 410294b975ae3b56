"""The scrub: hash every model's bytes repeatedly, slowly, and only while ComfyUI is idle.

A file with the right size and times may still be corrupt: a failing disk, a partly restored volume.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from typing import TYPE_CHECKING

from gesso.errors import CheckError
from gesso.models import receipts
from gesso.runtime.layout import COMFY_PORT
from gesso.runtime.services import comfyui

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from gesso.manifest.schema import Model
    from gesso.models.folder import Folder

RATE = 32_000_000  # bytes per second: a few percent of a core
FIRST_DELAY, PASS_INTERVAL = 60.0, 6 * 3600.0  # seconds before the first pass, and between two
_CHUNK = 1 << 20
_POLL_INTERVAL = 1.0  # seconds
_IDLE_CACHE = 5.0  # seconds for which ComfyUI's response about its queue is cached


def idle(port: int = COMFY_PORT) -> bool:
    """Return whether ComfyUI is idle; True if it does not respond."""
    try:
        return not comfyui.get_json("/prompt", timeout=2.0, port=port)["exec_info"]["queue_remaining"]
    except (CheckError, KeyError, TypeError):
        return True


class Scrub:
    """The scrub loop. `on_damaged` gets the name of a model whose bytes do not match its receipt."""

    def __init__(
        self, models: Sequence[Model], folder: Folder, on_damaged: Callable[[str], None],
        is_idle: Callable[[], bool] = idle, rate: int = RATE,
    ) -> None:  # fmt: skip
        self._models, self._folder, self._rate = models, folder, rate
        self._on_damaged, self._is_idle = on_damaged, is_idle
        self._checked_at, self._last_idle = -1e9, True

    def run(self, stop: threading.Event) -> None:
        """Scrub until `stop` is set."""
        pause = FIRST_DELAY
        while not stop.wait(pause):
            self.once(stop)
            pause = PASS_INTERVAL

    def once(self, stop: threading.Event) -> None:
        """Hash every model with a receipt once; the others are being checked or fetched anyway."""
        for model in self._models:
            with contextlib.suppress(OSError):  # deleted meanwhile: model_sync notices
                self._one(model, stop)

    def _one(self, model: Model, stop: threading.Event) -> None:
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
        digest, at = hashlib.sha256(), 0
        while not stop.is_set():
            while not self._allowed() and not stop.wait(_POLL_INTERVAL):
                pass
            try:
                chunk = os.pread(handle, _CHUNK, at)
            except OSError:  # an unreadable file is damaged
                return ""
            if not chunk:
                break
            digest.update(chunk)
            at += len(chunk)
            stop.wait(len(chunk) / self._rate)
        return digest.hexdigest()

    def _allowed(self) -> bool:
        if time.monotonic() - self._checked_at > _IDLE_CACHE:
            self._checked_at, self._last_idle = time.monotonic(), self._is_idle()
        return self._last_idle
