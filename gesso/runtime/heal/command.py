"""`gesso heal`: takes the lock, heals, keeps the journal, and tells at the terminal what happens."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from typing import TYPE_CHECKING, Any

from gesso import report
from gesso.errors import INTERRUPTED, ManifestError
from gesso.models import wanted
from gesso.models.download.locks import hold
from gesso.runtime import boot, stock
from gesso.runtime.heal import aside, reports, words
from gesso.runtime.heal.models import Models
from gesso.runtime.heal.parts import Code, Processes, Python, Workspace
from gesso.runtime.heal.service import Supervised
from gesso.runtime.heal.work import Healing, heal
from gesso.runtime.supervisor import Supervisor, environment_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import FrameType

    from gesso.runtime.heal.work import Part
    from gesso.runtime.layout import Layout, Record

    Hear = Callable[[dict[str, Any]], None]


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `gesso heal`."""
    command.add_argument("--dry-run", action="store_true", help="only look, and tell what would be done")
    command.add_argument("--events", action="store_true", help="print what happens, a line of JSON each, as it happens")
    command.add_argument("--by", default="terminal", metavar="WHO", help="who asked for it, for the report")
    command.add_argument("--id", default=None, metavar="ID", help="the name of its report; made up where none is given")


def run(options: argparse.Namespace, layout: Layout, record: Record, env: Mapping[str, str]) -> int:
    """Heal, and give the exit code."""
    name = options.id or reports.new_id(time.time())
    if not reports.is_id(name):
        raise ManifestError(f"--id {name}: is no name of a report", "leave it out")
    view = words.Teller(report.say)
    hear: Hear = (lambda event: report.result(json.dumps(event))) if options.events else view.hear
    found = one(layout, record, env, hear, name=name, by=options.by, dry_run=options.dry_run)
    if options.json:
        report.result_json(found)
    elif not options.events:
        report.result(words.text(found, layout.reports / f"{name}.json"))
    return int(found["code"])


def one(
    layout: Layout, record: Record, env: Mapping[str, str], hear: Hear, *, name: str, by: str, dry_run: bool
) -> dict[str, Any]:  # fmt: skip
    """Do one heal, and give its report, which is kept.

    Raises LocalError where the lock cannot be had. Ctrl-C and SIGTERM end it with a report of what was done.
    """
    journal = reports.Journal(layout.reports, name)

    def tell(event: str, **facts: Any) -> None:
        hear(journal.tell(event, **facts))

    healing = Healing({"id": name, "by": by, "arch": record.arch, "title": record.title}, dry_run)
    code = None
    with _terminable(), _held(layout.heal_lock, tell), contextlib.ExitStack() as claim:
        tell("begun", id=name, by=by, arch=record.arch, dry_run=dry_run)
        try:
            whole = {**environment_of(layout), **env}
            supervisor = Supervisor(layout.run / "supervisor.sock")
            service = Supervised(layout, record, supervisor, lambda: boot.revive(layout, whole, lambda _: None))
            if not dry_run:
                claim.enter_context(_held(layout.models_lock, tell))
            heal(parts(layout, record, whole, supervisor, name), service, tell, healing, claim.close)
        except KeyboardInterrupt:
            code = INTERRUPTED
        finally:
            aside.trim(layout)
            found = healing.report(code)
            tell("ended", ok=found["ok"], code=found["code"], summary=found["summary"])
            journal.end(found)
    return found


def parts(
    layout: Layout, record: Record, env: Mapping[str, str], supervisor: Supervisor, name: str
) -> tuple[Part, ...]:  # fmt: skip
    """Give the parts of a gesso instance, in the order of their repair."""
    models = wanted.from_record(record.raw["models"], layout.gesso / "build.json")
    return (
        Python(layout, record, env),
        Code(layout, record, aside.folder(layout, name)),
        Workspace(layout, record),
        Processes(layout, record, env, supervisor),
        Models(models, stock.folder_of(layout), env),
    )


@contextlib.contextmanager
def _held(path: Path, tell: Callable[..., None]) -> Iterator[None]:
    """Hold a lock: two heals at once do the work once."""
    with hold(path, lambda: tell("waiting", what="another heal is at work"), lambda: None, what="heal"):
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
