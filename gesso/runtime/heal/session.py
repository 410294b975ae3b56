"""What every heal has around it, whatever it heals: a lock, a journal, and an end that is told, however early it is."""

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
from gesso.runtime.heal.runner import Healing

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from gesso.runtime.layout import Layout

    Hear = Callable[[dict[str, Any]], None]


@dataclass
class Session:
    """One heal: what it has found and done, how it tells of it, and, when it has ended, its report."""

    healing: Healing
    journal: reports.Journal
    hear: Hear
    report: dict[str, Any] = field(default_factory=dict)

    def tell(self, event: str, **facts: Any) -> None:
        """Write an event to the journal, and say it."""
        self.hear(self.journal.tell(event, **facts))


@contextlib.contextmanager
def session(layout: Layout, hear: Hear, about: dict[str, Any], *, dry_run: bool) -> Iterator[Session]:
    """Have the heal that `about` names (`id`, `by`, `arch`, `title`) to oneself; its report is kept at its end.

    Ctrl-C and SIGTERM end it, with a report of what was done. Raises LocalError where the lock cannot be had.
    """
    made = Session(Healing(about, dry_run), reports.Journal(layout.reports, about["id"]), hear)
    code = None
    with _terminable(), held(layout.heal_lock, made.tell):
        made.tell("begun", id=about["id"], by=about["by"], arch=about["arch"], dry_run=dry_run)
        try:
            yield made
        except KeyboardInterrupt:
            code = INTERRUPTED
        finally:
            quarantine.trim(layout)
            made.report = made.healing.report(code)
            made.tell("ended", **{key: made.report[key] for key in ("ok", "code", "summary")})
            made.journal.end(made.report)


@contextlib.contextmanager
def held(path: Path, tell: Callable[..., object]) -> Iterator[None]:
    """Hold a lock: two heals at once do the work once."""

    def on_wait() -> None:
        tell("waiting", what="another heal is at work")

    with hold(path, on_wait, lambda: None, what="heal"):
        yield


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Take SIGTERM for a Ctrl-C: what was begun is told before we go."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def hearer(options: argparse.Namespace) -> Hear:
    """Give what tells of events as the options ask: as lines of JSON, or in words."""
    if options.events:
        return lambda event: report.result(json.dumps(event))
    return terminal.Teller(report.say).hear


def show(found: dict[str, Any], layout: Layout, options: argparse.Namespace) -> int:
    """Print a report as the options ask, and give the exit code."""
    if options.json:
        report.result_json(found)
    elif not options.events:
        report.result(terminal.text(found, layout.reports / f"{found['id']}.json"))
    return int(found["code"])
