"""Who has the processor first: the hash, which all wait for in the end, and ComfyUI while it starts."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

_NICE = 5


def step_back() -> None:
    """Let this thread have the processor after others. Linux alone knows priorities of threads."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
