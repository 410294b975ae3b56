"""`gesso heal` in a gesso image."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from gesso.errors import ManifestError
from gesso.models import wanted
from gesso.runtime import boot
from gesso.runtime.heal import quarantine, reports
from gesso.runtime.heal.models import Models
from gesso.runtime.heal.parts import Code, Processes, Python, Workspace
from gesso.runtime.heal.runner import heal
from gesso.runtime.heal.service import Supervised
from gesso.runtime.heal.session import hearer, held, session, show
from gesso.runtime.services.supervisord import Supervisor, environment_of
from gesso.runtime.watch import model_sync

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from gesso.runtime.heal.runner import Part
    from gesso.runtime.layout import Layout, Record


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `gesso heal`."""
    command.add_argument("--dry-run", action="store_true", help="only look, and tell what would be done")
    command.add_argument("--events", action="store_true", help="print what happens, a line of JSON each, as it happens")
    command.add_argument("--by", default="terminal", metavar="WHO", help="who asked for it, for the report")
    command.add_argument("--id", default=None, metavar="ID", help="the name of its report; made up where none is given")


def run(options: argparse.Namespace, layout: Layout, record: Record, env: Mapping[str, str]) -> int:
    """Heal, and give the exit code.

    Raises LocalError where the lock cannot be had.
    """
    name = options.id or reports.new_id(time.time())
    if not reports.is_id(name):
        raise ManifestError(f"--id {name}: is no name of a report", "leave it out")
    about = {"id": name, "by": options.by, "arch": record.arch, "title": record.title}
    with session(layout, hearer(options), about, dry_run=options.dry_run) as made, contextlib.ExitStack() as claim:
        whole = {**environment_of(layout), **env}
        supervisor = Supervisor(layout.run / "supervisor.sock")
        service = Supervised(layout, record, supervisor, lambda: boot.revive(layout, whole, lambda _: None))
        if not options.dry_run:
            claim.enter_context(held(layout.models_lock, made.tell))
        heal(parts(layout, record, whole, supervisor, name), service, made.tell, made.healing, claim.close)
    return show(made.report, layout, options)


def parts(
    layout: Layout, record: Record, env: Mapping[str, str], supervisor: Supervisor, name: str
) -> tuple[Part, ...]:  # fmt: skip
    """Give the parts of a gesso instance, in the order of their repair."""
    models = wanted.from_record(record.raw["models"], layout.gesso / "build.json")
    return (
        Python(layout, record, env),
        Code(layout, record, quarantine.folder(layout, name)),
        Workspace(layout, record),
        Processes(layout, record, env, supervisor),
        Models(models, model_sync.folder_of(layout), env),
    )
