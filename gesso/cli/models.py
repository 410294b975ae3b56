"""`gesso fetch` and `gesso verify`: in an image by its record, on a host by a project's manifest and lock."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso import report
from gesso.dotenv import with_tokens
from gesso.errors import LockError, ManifestError
from gesso.manifest.load import load
from gesso.manifest.lock import read_lock, stale_inputs
from gesso.models import progress, wanted
from gesso.models.events import Event
from gesso.models.fetch import fetch
from gesso.models.folder import Folder
from gesso.models.tiers import TIERS
from gesso.models.verify import Verdict, audit
from gesso.runtime import variables
from gesso.runtime.layout import find_layout
from gesso.settings import Project, select

if TYPE_CHECKING:
    import argparse

    from gesso.manifest.schema import Model
    from gesso.models.events import Kind
    from gesso.models.fetch import Outcome
    from gesso.models.verify import Level
    from gesso.runtime.layout import Layout


def add_shared_options(command: argparse.ArgumentParser) -> None:
    """Add the options that `fetch` and `verify` share: which models, and where."""
    command.add_argument(
        "names", nargs="*", metavar="MODEL", help="a path under models/, or its last part; default: all"
    )
    command.add_argument("--tier", choices=TIERS, help="only models down to this tier")
    command.add_argument("--models", type=Path, metavar="DIR", help="the models folder (in an image: its own)")
    which = command.add_argument_group("which models (in an image: its own, from /opt/gesso/build.json)")
    which.add_argument(
        "--arch", help="those of an architecture, from the manifest and lock of the checkout in this folder"
    )
    which.add_argument(
        "--overlay", action="append", default=[], metavar="FILE", help="an overlay to apply to the manifest"
    )
    which.add_argument("--trial", action="store_true", help="the trial's small stand-ins")
    which.add_argument("--record", type=Path, metavar="FILE", help="those of another image's build.json")


def _models(options: argparse.Namespace, layout: Layout) -> tuple[Model, ...]:
    if options.arch is None:
        path = options.record or layout.gesso / "build.json"
        try:
            listed = json.loads(path.read_bytes())["models"]
            if not isinstance(listed, list):
                raise TypeError(listed)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else f"not an image's record ({type(error).__name__})"
            step = "outside an image, specify an architecture: --arch sdxl"
            raise ManifestError(f"{path}: {reason}", step) from None
        models = wanted.from_record(listed, path)
    else:
        models = _of_project(options)
    return wanted.choose(models, options.names, options.tier)


def _project() -> Project:
    here = Path.cwd()
    roots = [folder for folder in (here, *here.parents) if (folder / "manifests" / "common.yaml").is_file()]
    if not roots:
        raise ManifestError(f"{here}: contains no manifests/", "run this in a checkout of gesso")
    return Project(roots[0])


def _of_project(options: argparse.Namespace) -> tuple[Model, ...]:
    selection = select(_project(), options.arch, options.overlay, trial=options.trial)
    manifest = load(selection.manifest, selection.layers, root=selection.project.root).manifest
    locked = selection if selection.lock.is_file() or not selection.overlays else selection.without_overlays
    remedy = f"run `invoke lock {selection.flags}`"
    if not locked.lock.is_file():
        raise LockError(f"{locked.lock.name}: there is no such lock", remedy)
    lock = read_lock(locked.lock)
    if stale := [name for name in stale_inputs(lock, manifest) if name.startswith("models")]:
        raise LockError(f"{locked.lock.name} is stale; changed since it was made: {', '.join(stale)}", remedy)
    return wanted.from_lock(manifest, lock)


def _folder(options: argparse.Namespace, layout: Layout) -> Folder:
    """Return the models folder; gesso's own files about it are stored elsewhere where it is read-only."""
    if options.models is None and options.arch is not None:
        raise ManifestError("--arch requires the models folder", "add --models DIR")
    root = options.models or layout.models
    if options.models is None and root.is_dir() and not os.access(root, os.W_OK):
        return Folder.at(root, layout.state / "models")
    return Folder.at(root.absolute())


def run_fetch(options: argparse.Namespace) -> int:
    """Run `gesso fetch`; return the exit code."""
    layout = find_layout()
    models, folder = _models(options, layout), _folder(options, layout)
    env = _of_instance(layout) if options.arch is None else with_tokens(_project().root, os.environ)
    if options.events:
        outcomes = fetch(models, folder, env=env, on_event=_print_event)
    else:
        from gesso.models.view import FetchView  # noqa: PLC0415 - costs a tenth of a second, which scripts can save

        with FetchView() as view:
            outcomes = fetch(models, folder, env=env, on_event=view.on_event)
    failed = [outcome.error for outcome in outcomes if outcome.error is not None]
    if options.json:
        report.result_json({"ok": not failed, "models": [_outcome(outcome) for outcome in outcomes]})
    elif not options.events:
        report.result(_summary(outcomes))
    if failed and (options.json or options.events):
        for error in failed:
            report.progress(f"gesso: {error}")
    elif failed:  # each was reported when it happened
        names = ", ".join(outcome.model.name for outcome in outcomes if outcome.error is not None)
        report.progress(f"gesso: not fetched: {names}; the reasons are above")
    return failed[0].exit_code if failed else 0


def _of_instance(layout: Layout) -> dict[str, str]:
    """Return the environment with the tokens and the proxy of the instance: the agent's own has none."""
    env = variables.full(layout, os.environ)
    variables.adopt_proxies(env)
    report.hide(variables.private_values(env))
    return env


def _print_event(event: Event) -> None:
    report.result(json.dumps(event.as_json()))


def _outcome(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": outcome.model.name, "tier": outcome.model.tier, "state": outcome.state, "source": outcome.source,
        "received": outcome.received, "seconds": round(outcome.seconds, 2), "note": outcome.note,
    }  # fmt: skip
    if (error := outcome.error) is not None:
        found["error"] = {
            "why": getattr(error, "why", ""), "message": error.message, "next": error.next_step,
        }  # fmt: skip
    return found


def _summary(outcomes: list[Outcome]) -> str:
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.state] = counts.get(outcome.state, 0) + 1
    received = sum(outcome.received for outcome in outcomes)
    return f"models: {', '.join(f'{n} {state}' for state, n in counts.items())}; {progress.size(received)} fetched"


def run_verify(options: argparse.Namespace) -> int:
    """Run `gesso verify`; return the exit code."""
    layout = find_layout()
    models, folder = _models(options, layout), _folder(options, layout)
    level: Level = "full" if options.full else "header" if options.header else "fast"
    verdicts = _audit_with_progress(models, folder, level)
    code = max((_code(verdict) for verdict in verdicts), default=0)
    if options.json:
        rows = [asdict(verdict) for verdict in verdicts]
        report.result_json({"ok": code == 0, "level": level, "models": rows})
    else:
        report.result("\n".join(_row(verdict) for verdict in verdicts))
        steps = dict.fromkeys(verdict.next_step for verdict in verdicts if verdict.next_step)
        if steps:
            report.result(f"next: {'; '.join(steps)}")
    return code


def _audit_with_progress(models: tuple[Model, ...], folder: Folder, level: Level) -> list[Verdict]:
    """Audit with a progress display: reading 30 GB takes a while."""
    from gesso.models.view import FetchView  # noqa: PLC0415 - as above

    by_name = {model.name: model for model in models}
    hashed = dict.fromkeys(by_name, 0)
    guard = threading.Lock()
    with FetchView() as view:

        def on_progress(name: str, count: int = 0, kind: Kind = "checking") -> None:
            with guard:
                hashed[name] += count
                model = by_name[name]
                view.on_event(Event(kind=kind, name=name, tier=model.tier, size=model.size, done=hashed[name]))

        return audit(
            models,
            folder,
            level,
            on_bytes=on_progress,
            on_verdict=lambda verdict: on_progress(verdict.name, kind="there"),
        )


def _code(verdict: Verdict) -> int:
    """Return 5 for a bad or a missing required model, 1 for an unproven one, 0 for a missing optional one."""
    if verdict.bad or (verdict.status == "missing" and verdict.tier == "required"):
        return 5
    return 1 if verdict.status == "unproven" else 0


def _row(verdict: Verdict) -> str:
    size = progress.size(verdict.size) if verdict.size is not None else "-"
    tier = "" if verdict.tier == "required" else f" ({verdict.tier})"
    remark = f"; {verdict.remark}" if verdict.remark else ""
    return f"{verdict.status:<12} {size:>8}  {verdict.name}{tier}: {verdict.evidence}{remark}"
