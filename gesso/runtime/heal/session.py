"""The session around every heal: a lock, a journal, and a report at its end, also where it is interrupted."""

from __future__ import annotations

import contextlib
import json
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gesso import report
from gesso.errors import INTERRUPTED
from gesso.models.download.locks import hold
from gesso.runtime.heal import quarantine, reports, terminal
from gesso.runtime.heal.runner import HealRun

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from gesso.runtime.layout import Layout

    EventListener = Callable[[dict[str, Any]], None]


@dataclass
class Session:
    """One heal: its state, its journal, its event listener, and, after its end, its report."""

    heal_run: HealRun
    journal: reports.Journal
    listener: EventListener
    report: dict[str, Any] = field(default_factory=dict)

    def emit(self, event: str, **facts: Any) -> None:
        """Write an event to the journal, and pass it to the listener."""
        self.listener(self.journal.emit(event, **facts))


@contextlib.contextmanager
def open_session(layout: Layout, listener: EventListener, facts: dict[str, Any], *, dry_run: bool) -> Iterator[Session]:
    """Hold the heal lock during one heal, and write its report at the end. `facts`: its `id`, `by`, `arch`, `title`.

    Ctrl-C and SIGTERM end it, with a report of what was done. Raises LocalError where the lock cannot be taken.
    """
    session = Session(HealRun(facts, dry_run), reports.Journal(layout.reports, facts["id"]), listener)
    code = None
    with _terminable(), exclusive(layout.heal_lock, session.emit):
        session.emit("begun", id=facts["id"], by=facts["by"], arch=facts["arch"], dry_run=dry_run)
        try:
            yield session
        except KeyboardInterrupt:
            code = INTERRUPTED
        finally:
            quarantine.trim(layout)
            session.report = session.heal_run.report(code)
            session.emit("ended", **{key: session.report[key] for key in ("ok", "code", "summary")})
            session.journal.end(session.report)


@contextlib.contextmanager
def exclusive(path: Path, on_event: Callable[..., object]) -> Iterator[None]:
    """Hold a lock; report where another heal holds it, and wait."""

    def on_wait() -> None:
        on_event("waiting", what="another heal is running")

    with hold(path, on_wait, lambda: None, what="heal"):
        yield


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that the report is written before the process ends."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def event_printer(options: argparse.Namespace) -> EventListener:
    """Return a listener that prints events as the options request: as JSON lines, or as text."""
    if options.events:
        return lambda event: report.result(json.dumps(event))
    return terminal.TerminalReport(report.progress).on_event


def print_report(found: dict[str, Any], layout: Layout, options: argparse.Namespace) -> int:
    """Print a report as the options request, and return the exit code."""
    if options.json:
        report.result_json(found)
    elif not options.events:
        report.result(terminal.format_report(found, layout.reports / f"{found['id']}.json"))
    return int(found["code"])
