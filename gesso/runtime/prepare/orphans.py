"""End the processes that a killed supervisor left running: they would hold the ports."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gesso.runtime.layout import COMFY_USER

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.runtime.layout import Layout

_TERM_TIMEOUT = 5.0  # seconds between SIGTERM and SIGKILL


def find_orphans(layout: Layout, proc: Path = Path("/proc")) -> list[int]:
    """Return the IDs of all processes that a supervisor of this instance started, directly or not.

    They have its mark in their environment; that of ComfyUI's own user is not readable, also for a container's root,
    but nothing else runs as that user.
    """
    mark = f"SUPERVISOR_SERVER_URL=unix://{layout.run}/supervisor.sock".encode()
    found = []
    for entry in proc.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if _user_of(entry) == COMFY_USER or mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return sorted(found)


def _user_of(entry: Path) -> int | None:
    """Return the effective user of a living process; None for one of a container below this one."""
    with contextlib.suppress(OSError):
        lines = (entry / "status").read_text(encoding="utf-8", errors="replace").splitlines()
        values = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        nested = len(values.get("NSpid", ())) > 1
        if values.get("State", ["Z"])[0] != "Z" and not nested:  # a zombie holds no port, and cannot be ended
            return int(values["Uid"][1])
    return None


def end_orphans(layout: Layout, on_progress: Callable[[str], None], proc: Path = Path("/proc")) -> None:
    """End orphans: SIGTERM, then SIGKILL. Call it only with the boot lock held: then no supervisor is alive."""
    found = find_orphans(layout, proc)
    if not found:
        return
    on_progress(f"gesso: ending {len(found)} processes left over from an earlier run")
    _signal(found, signal.SIGTERM)
    end = time.monotonic() + _TERM_TIMEOUT
    while (found := find_orphans(layout, proc)) and time.monotonic() < end:
        time.sleep(0.05)
    _signal(found, signal.SIGKILL)
    while find_orphans(layout, proc) and time.monotonic() < end + _TERM_TIMEOUT:
        time.sleep(0.05)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
