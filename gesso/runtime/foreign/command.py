"""`gesso heal` for an instance that gesso did not make: what a bundle's heal.py runs there."""

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
from gesso.runtime.foreign.service import Handmade
from gesso.runtime.heal import quarantine, reports
from gesso.runtime.heal.models import Models
from gesso.runtime.heal.runner import heal
from gesso.runtime.heal.session import hearer, session, show
from gesso.runtime.layout import Layout, read_record
from gesso.runtime.prepare.guard import GUARDED
from gesso.runtime.services import krita

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gesso.runtime.foreign.discover import Found
    from gesso.runtime.foreign.paths import Foreign
    from gesso.runtime.heal.runner import Part
    from gesso.runtime.heal.session import Session
    from gesso.runtime.layout import Record


def main(bundle: Path, argv: Sequence[str]) -> int:
    """Heal the ComfyUI of this machine from an unpacked bundle; give the exit code."""
    parser = argparse.ArgumentParser(prog="heal.py")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--events", action="store_true")
    parser.add_argument("--by", default="ssh")
    parser.add_argument("--comfyui", default="")
    options = parser.parse_args(argv)
    with report.exit_codes():
        return run(options, bundle, discover.home())


def run(options: argparse.Namespace, bundle: Path, kept: Path) -> int:
    """Find ComfyUI, heal it, print what came of it.

    Raises CheckError where none is found, or its Python does not answer.
    """
    record = read_record(Layout(gesso=bundle))
    try:
        found = discover.find(options.comfyui)
    except discover.NotFoundError as error:
        raise CheckError(str(error), error.next_step) from None
    env = found.process.env if found.process is not None else {}
    python = paths.ask(found.python, env, found.folder)
    layout = paths.of(found, python, bundle, kept)
    paths.remember(kept, found)
    about = {
        "id": reports.new_id(time.time()), "by": options.by, "arch": record.arch, "title": record.title,
        "comfyui": str(found.folder), "python": f"{layout.python.path} ({layout.python.version})",
    }  # fmt: skip
    with session(layout, hearer(options), about, dry_run=options.dry_run) as made:
        _heal(layout, record, found, made)
    return show(made.report, layout, options)


def _heal(layout: Foreign, record: Record, found: Found, made: Session) -> None:
    how = launch_method.of(found)
    state = f"process {found.process.pid}, {how}" if found.process is not None else "it does not run"
    made.tell("said", text=f"ComfyUI in {found.folder} ({state}), {layout.python.path} {layout.python.version}")
    service = Handmade(layout, record, found, how)
    heal(parts(layout, record, found, made.healing.facts["id"]), service, made.tell, made.healing)
    if made.healing.dry_run or not service.up():
        return
    try:
        krita.publish(layout, record, lambda text: made.tell("said", text=text), layout.port)
    except CheckError as error:
        made.healing.troubles.append(error)


def parts(layout: Foreign, record: Record, found: Found, name: str) -> tuple[Part, ...]:
    """Give the parts of a foreign instance, in the order of their repair."""
    env: Mapping[str, str] = found.process.env if found.process is not None else {}
    argv = found.process.argv if found.process is not None else ()
    models = wanted.from_record(record.raw["models"], layout.gesso / "build.json")
    folder = paths.models_folder(layout, (model.name for model in models), argv, found.folder)
    tokens = {**os.environ, **{key: env[key] for key in ("HF_TOKEN", "HF_ENDPOINT", "CIVITAI_TOKEN") if key in env}}
    return (
        Sqlalchemy(layout, record, env, Constraint(layout, record.pins[GUARDED])),
        Packs(layout, record, quarantine.folder(layout, name)),
        Workflows(layout, record),
        Running(layout, record, runs=found.process is not None),
        Models(models, folder, tokens),
    )
