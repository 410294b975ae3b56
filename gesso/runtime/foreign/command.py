"""`gesso heal` for an instance that gesso did not make: run there by a bundle's heal.py."""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING

from gesso import report
from gesso.errors import CheckError
from gesso.models import wanted
from gesso.runtime.foreign import discover, launch_method, paths
from gesso.runtime.foreign.constraint import Constraint
from gesso.runtime.foreign.parts import Packs, Running, Sqlalchemy, Workflows
from gesso.runtime.foreign.service import ForeignService
from gesso.runtime.heal import quarantine, reports
from gesso.runtime.heal.models import Models
from gesso.runtime.heal.runner import heal
from gesso.runtime.heal.session import event_printer, open_session, print_report
from gesso.runtime.layout import Layout, read_record
from gesso.runtime.prepare.guard import GUARDED
from gesso.runtime.services import krita

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gesso.runtime.foreign.discover import Found
    from gesso.runtime.foreign.paths import ForeignLayout
    from gesso.runtime.heal.runner import Part
    from gesso.runtime.heal.session import Session
    from gesso.runtime.layout import Record


def main(bundle: Path, argv: Sequence[str]) -> int:
    """Heal the ComfyUI of this machine from an unpacked bundle, and return the exit code."""
    parser = argparse.ArgumentParser(prog="heal.py")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--events", action="store_true")
    parser.add_argument("--by", default="ssh")
    parser.add_argument("--comfyui", default="")
    options = parser.parse_args(argv)
    with report.exit_codes():
        return run(options, bundle, discover.cache_folder())


def run(options: argparse.Namespace, bundle: Path, state: Path) -> int:
    """Find ComfyUI, heal it, and print the report.

    Raises CheckError where none is found, or its Python does not work.
    """
    record = read_record(Layout(gesso=bundle))
    try:
        found = discover.find(options.comfyui)
    except discover.NotFoundError as error:
        raise CheckError(str(error), error.next_step) from None
    env = found.process.env if found.process is not None else {}
    python = paths.inspect_python(found.python, env, found.folder)
    layout = paths.layout_of(found, python, bundle, state)
    paths.save_start(state, found)
    facts = {
        "id": reports.new_id(time.time()), "by": options.by, "arch": record.arch, "title": record.title,
        "comfyui": str(found.folder), "python": f"{layout.python.path} ({layout.python.version})",
    }  # fmt: skip
    with open_session(layout, event_printer(options), facts, dry_run=options.dry_run) as session:
        _heal(layout, record, found, session)
    return print_report(session.report, layout, options)


def _heal(layout: ForeignLayout, record: Record, found: Found, session: Session) -> None:
    method = launch_method.detect(found)
    state = f"process {found.process.pid}, {method}" if found.process is not None else "not running"
    session.emit("said", text=f"ComfyUI in {found.folder} ({state}), {layout.python.path} {layout.python.version}")
    service = ForeignService(layout, record, found, method)
    heal(parts(layout, record, found, session.heal_run.facts["id"]), service, session.emit, session.heal_run)
    if session.heal_run.dry_run or not service.is_up():
        return
    try:
        krita.publish(layout, record, lambda text: session.emit("said", text=text), layout.port)
    except CheckError as error:
        session.heal_run.errors.append(error)


def parts(layout: ForeignLayout, record: Record, found: Found, heal_id: str) -> tuple[Part, ...]:
    """Return the parts of a foreign instance, in the order of their repair."""
    env: Mapping[str, str] = found.process.env if found.process is not None else {}
    argv = found.process.argv if found.process is not None else ()
    models = wanted.from_record(record.raw["models"], layout.gesso / "build.json")
    folder = paths.models_folder(layout, (model.name for model in models), argv, found.folder)
    tokens = {**os.environ, **{key: env[key] for key in ("HF_TOKEN", "HF_ENDPOINT", "CIVITAI_TOKEN") if key in env}}
    return (
        Sqlalchemy(layout, record, env, Constraint(layout, record.pins[GUARDED])),
        Packs(layout, record, quarantine.folder(layout, heal_id)),
        Workflows(layout, record),
        Running(layout, record, runs=found.process is not None),
        Models(models, folder, tokens),
    )
