"""The scrub: every model's bytes are hashed again, pass after pass, slowly, and not while ComfyUI has work to do.

A file whose size and times are right may still have rotted: a disk that fails, a volume that was restored by halves.
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

RATE = 32_000_000  # bytes a second: a few hundredths of a core
FIRST, NEXT = 60.0, 6 * 3600.0  # seconds until the first pass begins, and from the end of one to the next
_CHUNK = 1 << 20
_STEP = 1.0  # seconds
_FRESH = 5.0  # seconds for which ComfyUI's word about its queue counts


def idle(port: int = COMFY_PORT) -> bool:
    """Tell whether ComfyUI has nothing to do; where it does not say, it has not."""
    try:
        return not comfyui.ask("/prompt", timeout=2.0, port=port)["exec_info"]["queue_remaining"]
    except (CheckError, KeyError, TypeError):
        return True


class Scrub:
    """The loop. `doubt` is told the name of a model whose bytes are not what its receipt says."""

    def __init__(
        self, models: Sequence[Model], folder: Folder, doubt: Callable[[str], None],
        may: Callable[[], bool] = idle, rate: int = RATE,
    ) -> None:  # fmt: skip
        self._models, self._folder, self._doubt, self._may, self._rate = models, folder, doubt, may, rate
        self._asked, self._answer = -1e9, True

    def run(self, stop: threading.Event) -> None:
        """Scrub, until told to stop."""
        pause = FIRST
        while not stop.wait(pause):
            self.once(stop)
            pause = NEXT

    def once(self, stop: threading.Event) -> None:
        """Hash all that is here and has a receipt; the others are being checked or fetched anyway."""
        for model in self._models:
            with contextlib.suppress(OSError):  # gone meanwhile: the stock notices
                self._one(model, stop)

    def _one(self, model: Model, stop: threading.Event) -> None:
        if not receipts.holds(self._folder, model.name, model.sha256):
            return
        handle = os.open(self._folder.path(model.name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            before, digest = receipts.looks(os.fstat(handle)), self._hash(handle, stop)
            if receipts.looks(os.fstat(handle)) != before or stop.is_set() or digest == model.sha256:
                return
        finally:
            os.close(handle)
        receipts.forget(self._folder, model.name)
        self._doubt(model.name)

    def _hash(self, handle: int, stop: threading.Event) -> str:
        digest, at = hashlib.sha256(), 0
        while not stop.is_set():
            while not self._allowed() and not stop.wait(_STEP):
                pass
            try:
                chunk = os.pread(handle, _CHUNK, at)
            except OSError:  # a file that cannot be read is not right
                return ""
            if not chunk:
                break
            digest.update(chunk)
            at += len(chunk)
            stop.wait(len(chunk) / self._rate)
        return digest.hexdigest()

    def _allowed(self) -> bool:
        if time.monotonic() - self._asked > _FRESH:
            self._asked, self._answer = time.monotonic(), self._may()
        return self._answer
