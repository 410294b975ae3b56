"""Drift watch: compare Python, node packs and workflows with the lock, every minute.

Models are checked by model_sync (size and times, every few seconds) and by the scrub (their bytes, slowly).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gesso.errors import CheckError
from gesso.runtime.heal import reports
from gesso.runtime.prepare import guard, node_packs, workspace

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from gesso.runtime.layout import Layout, Record

CHECK_INTERVAL = 60.0  # seconds
_POLL_INTERVAL = 1.0


def find_drift(layout: Layout, record: Record) -> tuple[str, ...]:
    """Return a line for everything except models that differs from the lock; takes 0.1 s.

    Raises CheckError if that cannot be determined.
    """
    found = [str(finding) for finding in guard.check(layout, record)]
    found += node_packs.changed(layout, record)
    for copy in workspace.workflow_copies(layout, record):
        try:
            is_current = copy.is_current()
        except OSError:
            is_current = False
        if not is_current:
            found.append(f"{copy.target} is not the locked workflow")
    return tuple(found)


class Drift:
    """The loop that watches for drift. `seen` may be read from any thread."""

    def __init__(self, layout: Layout, record: Record, usable: Callable[[], bool]) -> None:
        self._layout, self._record, self._usable = layout, record, usable
        self.seen: tuple[str, ...] = ()

    def run(self, stop: threading.Event) -> None:
        """Check every minute and after each heal; not before Krita can work, so that the start is not slowed down."""
        while not self._usable():
            if stop.wait(_POLL_INTERVAL):
                return
        next_check, last_heal = -1e9, ""
        while not stop.is_set():
            ended = self._last_heal()
            if time.monotonic() >= next_check or ended != last_heal:
                self.check()
                next_check, last_heal = time.monotonic() + CHECK_INTERVAL, ended
            stop.wait(_POLL_INTERVAL)

    def check(self) -> None:
        """Check once. What cannot be checked counts as drift, too."""
        try:
            self.seen = find_drift(self._layout, self._record)
        except (CheckError, OSError) as error:
            self.seen = (str(error).partition("\n")[0],)

    def _last_heal(self) -> str:
        last = next(iter(reports.names(self._layout.reports)), "")
        return last if last and reports.read(self._layout.reports, last) is not None else ""
