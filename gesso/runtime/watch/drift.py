"""Drift watch: compare Python, node packs, workflows and the gate's configuration with the lock, every minute.

Files are read again only if one of them was touched since the last check: an idle instance only asks for their times.
Models are checked by model_sync (size and times, every few seconds) and by the scrub (their bytes, slowly).
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from gesso.errors import CheckError
from gesso.runtime.gate import caddy
from gesso.runtime.prepare import file_times, guard, node_packs, workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record

CHECK_INTERVAL = 60.0  # seconds
_READ_INTERVAL = 6 * 3600.0  # seconds after which the files are read, even if their times are the same
_POLL_INTERVAL = 1.0


def find_drift(layout: Layout, record: Record, findings: list[guard.Finding]) -> tuple[str, ...]:
    """Return a line for everything except models that differs from the lock; takes 0.1 s.

    `findings`: what the guard found. Raises CheckError if that cannot be determined.
    """
    found = [*map(str, findings), *node_packs.changed(layout, record)]
    for copy in workspace.workflow_copies(layout, record):
        try:
            is_current = copy.is_current()
        except OSError:
            is_current = False
        if not is_current:
            found.append(f"{copy.target} is not the locked workflow")
    return tuple(found)


class Drift:
    """The loop that watches for drift. `seen` and `broken` may be read, and `check` be called, from any thread.

    `broken`: the findings with which ComfyUI must not be started.
    """

    def __init__(
        self, layout: Layout, record: Record, usable: Callable[[], bool], env: Mapping[str, str] | None = None
    ) -> None:  # fmt: skip
        self._layout, self._record, self._usable, self._env = layout, record, usable, env or {}
        self._guard = threading.Lock()
        self._times, self._read_at = b"", -1e9
        self._files: tuple[str, ...] = ()
        self.seen: tuple[str, ...] = ()
        self.broken: tuple[str, ...] = ()

    def run(self, stop: threading.Event) -> None:
        """Check every minute; not before Krita can work, so that the start is not slowed down."""
        while not self._usable():
            if stop.wait(_POLL_INTERVAL):
                return
        while not stop.is_set():
            self.check()
            stop.wait(CHECK_INTERVAL)

    def check(self) -> None:
        """Check once. What cannot be checked counts as drift, too."""
        with self._guard:
            try:
                times = file_times.of(self._paths())
                now = time.monotonic()
                if times != self._times or now - self._read_at >= _READ_INTERVAL:
                    findings = guard.check(self._layout, self._record)
                    self._files = find_drift(self._layout, self._record, findings)
                    self.broken = tuple(str(finding) for finding in findings if finding.broken)
                    self._times, self._read_at = times, now
                self.seen = (*self._files, *self._gate())
            except (CheckError, OSError) as error:
                self._times = b""
                self.seen = (str(error).partition("\n")[0],)

    def _gate(self) -> tuple[str, ...]:
        changed = not caddy.is_configured(self._layout, self._env)
        return ("the gate's configuration was changed; it takes effect when the gate restarts",) * changed

    def _paths(self) -> list[Path]:
        layout, site = self._layout, self._layout.site_packages
        copies = workspace.workflow_copies(layout, self._record)
        packs = [layout.comfyui / "custom_nodes" / name for name in self._record.raw.get("nodes", {})]
        distributions = [entry for entry in site.iterdir() if entry.name.endswith(".dist-info")]
        return [
            site / guard.GUARDED,
            *distributions,
            layout.gesso / "wheels",
            *packs,
            *(copy.target for copy in copies),
        ]
