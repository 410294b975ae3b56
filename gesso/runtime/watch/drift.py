"""Drift watch: is the instance still what it was made? Python, node packs and workflows, compared each minute.

Models are the stock's (by size and times, every few seconds) and the scrub's (by their bytes, slowly).
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

LOOK_EVERY = 60.0  # seconds
_STEP = 1.0


def look(layout: Layout, record: Record) -> tuple[str, ...]:
    """Say of everything that is not as it was made, but for the models, what it is; 0.1 s.

    Raises CheckError where that cannot be told.
    """
    found = [str(finding) for finding in guard.check(layout, record)]
    found += node_packs.changed(layout, record)
    for place in workspace.places(layout, record):
        try:
            right = place.right()
        except OSError:
            right = False
        if not right:
            found.append(f"{place.target} is not the locked workflow")
    return tuple(found)


class Drift:
    """The loop. `seen` may be read from any thread."""

    def __init__(self, layout: Layout, record: Record, usable: Callable[[], bool]) -> None:
        self._layout, self._record, self._usable = layout, record, usable
        self.seen: tuple[str, ...] = ()

    def run(self, stop: threading.Event) -> None:
        """Look, each minute and when a heal has ended. Not before Krita can work: the start has the machine."""
        while not self._usable():
            if stop.wait(_STEP):
                return
        due, healed = -1e9, ""
        while not stop.is_set():
            ended = self._last_heal()
            if time.monotonic() >= due or ended != healed:
                self.look()
                due, healed = time.monotonic() + LOOK_EVERY, ended
            stop.wait(_STEP)

    def look(self) -> None:
        """Take one look. What cannot be looked at is drift, too."""
        try:
            self.seen = look(self._layout, self._record)
        except (CheckError, OSError) as error:
            self.seen = (str(error).partition("\n")[0],)

    def _last_heal(self) -> str:
        last = next(iter(reports.names(self._layout.reports)), "")
        return last if last and reports.read(self._layout.reports, last) is not None else ""
