"""`gesso heal` for an instance that gesso did not make: what a bundle's heal.py runs there (gesso/publish/bundle)."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from gesso import report
from gesso.errors import INTERRUPTED, CheckError
from gesso.models import wanted
from gesso.models.download.locks import hold
from gesso.runtime import krita
from gesso.runtime.foreign import find, manner, place
from gesso.runtime.foreign.constraint import Constraint
from gesso.runtime.foreign.parts import Packs, Running, Sqlalchemy, Workflows
from gesso.runtime.foreign.service import Handmade
from gesso.runtime.guard import GUARDED
from gesso.runtime.heal import aside, reports, words
from gesso.runtime.heal.models import Models
from gesso.runtime.heal.work import Healing, heal
from gesso.runtime.layout import Layout, read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

    from gesso.runtime.foreign.find import Found
    from gesso.runtime.foreign.place import Foreign
    from gesso.runtime.heal.work import Part
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
        return run(options, bundle, find.home())


def run(options: argparse.Namespace, bundle: Path, kept: Path) -> int:
    """Find ComfyUI, heal it, print what came of it.

    Raises CheckError where none is found, or its Python does not answer.
    """
    record = read_record(Layout(gesso=bundle))
    try:
        found = find.find(options.comfyui)
    except find.NotFoundError as error:
        raise CheckError(str(error), error.next_step) from None
    env = found.process.env if found.process is not None else {}
    python = place.ask(found.python, env, found.folder)
    layout = place.of(found, python, bundle, kept)
    place.remember(kept, found)
    name = reports.new_id(time.time())
    view = words.Teller(report.say)
    hear = (lambda event: report.result(json.dumps(event))) if options.events else view.hear
    told = one(layout, record, found, hear, name=name, by=options.by, dry_run=options.dry_run)
    if options.json:
        report.result_json(told)
    elif not options.events:
        report.result(words.text(told, layout.reports / f"{name}.json"))
    return int(told["code"])


def one(
    layout: Foreign, record: Record, found: Found, hear: Callable[[dict[str, Any]], None], *, name: str, by: str,
    dry_run: bool,
) -> dict[str, Any]:  # fmt: skip
    """Do one heal, and give its report, which is kept."""
    journal = reports.Journal(layout.reports, name)

    def tell(event: str, **facts: Any) -> None:
        hear(journal.tell(event, **facts))

    about = {"id": name, "by": by, "arch": record.arch, "title": record.title, "comfyui": str(found.folder),
             "python": f"{layout.python.path} ({layout.python.version})"}  # fmt: skip
    healing = Healing(about, dry_run)
    code = None
    waiting = hold(layout.heal_lock, lambda: tell("waiting", what="another heal is at work"), lambda: None, what="heal")
    with _terminable(), waiting:
        tell("begun", id=name, by=by, arch=record.arch, dry_run=dry_run)
        how = manner.of(found)
        state = f"process {found.process.pid}, {how}" if found.process is not None else "it does not run"
        tell("said", text=f"ComfyUI in {found.folder} ({state}), {layout.python.path} {layout.python.version}")
        service = Handmade(layout, record, found, how)
        try:
            heal(parts(layout, record, found, name), service, tell, healing)
            if not dry_run and service.up():
                krita.publish(layout, record, lambda text: tell("said", text=text), layout.port)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except CheckError as error:  # of the publishing
            healing.troubles.append(error)
        finally:
            aside.trim(layout)
            ended = healing.report(code)
            tell("ended", ok=ended["ok"], code=ended["code"], summary=ended["summary"])
            journal.end(ended)
    return ended


def parts(layout: Foreign, record: Record, found: Found, name: str) -> tuple[Part, ...]:
    """Give the parts of a foreign instance, in the order of their repair."""
    env: Mapping[str, str] = found.process.env if found.process is not None else {}
    argv = found.process.argv if found.process is not None else ()
    models = wanted.from_record(record.raw["models"], layout.gesso / "build.json")
    folder = place.models_folder(layout, (model.name for model in models), argv, found.folder)
    tokens = {**os.environ, **{key: env[key] for key in ("HF_TOKEN", "HF_ENDPOINT", "CIVITAI_TOKEN") if key in env}}
    return (
        Sqlalchemy(layout, record, env, Constraint(layout, record.pins[GUARDED])),
        Packs(layout, record, aside.folder(layout, name)),
        Workflows(layout, record),
        Running(layout, record, runs=found.process is not None),
        Models(models, folder, tokens),
    )


@contextlib.contextmanager
def _terminable() -> Any:
    """Take SIGTERM for a Ctrl-C: what was begun is told before we go."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
