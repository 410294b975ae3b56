"""Before a start: end what an earlier supervisor left running when it was killed, or two would want the same ports."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.runtime.layout import Layout

_PATIENCE = 5.0  # seconds between asking and killing


def left_over(layout: Layout, proc: Path = Path("/proc")) -> list[int]:
    """Name the processes that a supervisor of this instance started, and those that these started."""
    mark = f"SUPERVISOR_SERVER_URL=unix://{layout.run}/supervisor.sock".encode()
    found = []
    for entry in proc.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return sorted(found)


def sweep(layout: Layout, say: Callable[[str], None], proc: Path = Path("/proc")) -> None:
    """End them, politely first. Only for who holds the boot's lock: then no supervisor lives."""
    found = left_over(layout, proc)
    if not found:
        return
    say(f"gesso: ending {len(found)} processes that were left over from before")
    _signal(found, signal.SIGTERM)
    end = time.monotonic() + _PATIENCE
    while (found := left_over(layout, proc)) and time.monotonic() < end:
        time.sleep(0.05)
    _signal(found, signal.SIGKILL)
    while left_over(layout, proc) and time.monotonic() < end + _PATIENCE:
        time.sleep(0.05)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
