"""`invoke check`, `invoke generate`, `invoke archs`: the tasks that need neither network nor engine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gesso import report
from gesso.builder.commands.project import PROJECT, read
from gesso.builder.image import build as image_build
from gesso.builder.image import context, trial
from gesso.builder.lock import lock_files, own_python
from gesso.builder.vast.template import render as template
from gesso.errors import BuildError, CheckError, LockError, ManifestError
from gesso.manifest import connecting
from gesso.manifest.load import load
from gesso.manifest.schema import editor_schema
from gesso.settings import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def check(others: Mapping[Path, str]) -> None:
    """Check everything that needs neither network nor engine, and report every problem.

    `others`: further generated files and their expected text, such as the picture of the code.
    """
    problems: list[str] = []
    for arch in PROJECT.archs():
        for is_trial in (False, True):
            problems += _problems_of(Selection(PROJECT, arch, (), is_trial))
    problems += [f"{name}.lock.txt is stale: run `invoke lock`" for name in own_python.stale(PROJECT)]
    try:
        drifted = [path for path, text in {**_generated(), **others}.items() if read(path) != text]
    except ManifestError as error:
        problems.append(str(error))
    else:
        problems += [f"{path.relative_to(PROJECT.root)} is out of date: run `invoke generate`" for path in drifted]
    if problems:
        raise CheckError("\n".join(dict.fromkeys(problems)), "fix these, then run `invoke check` again")
    report.result(f"ok: {', '.join(PROJECT.archs())}: manifests, locks, workflows, Dockerfiles")


def _problems_of(selection: Selection) -> list[str]:
    try:
        manifest, locked = image_build.prepare(selection)
        image_build.check_workflows(PROJECT, manifest)
        base = image_build.base_reference(locked)
        decided = image_build.decide(PROJECT, manifest, locked, base=base, wheel="gesso.whl")
        context.dockerfile(decided, PROJECT.images)
        template.check(manifest, locked)
    except (ManifestError, LockError, BuildError) as error:
        return [str(error)]
    return []


def archs(*, as_json: bool) -> None:
    """Print every architecture that has a manifest; as JSON in one line, for the matrix of a CI."""
    report.result(json.dumps(PROJECT.archs()) if as_json else "\n".join(PROJECT.archs()))


def generate(others: Mapping[Path, str]) -> None:
    """Write every generated file that is out of date, `others` included (as in `check`)."""
    for path, text in {**_generated(), **others}.items():
        path.parent.mkdir(exist_ok=True)
        if read(path) != text:
            lock_files.replace(path, text)
            report.result(f"wrote {path.relative_to(PROJECT.root)}")


def _generated() -> dict[Path, str]:
    """Return every generated file's text, from its sources.

    Raises ManifestError where those cannot be read.
    """
    texts = {PROJECT.manifests / "schema.json": json.dumps(editor_schema(), indent=1, sort_keys=True) + "\n"}
    for arch in PROJECT.archs():
        selection = Selection(PROJECT, arch)
        models = load(selection.manifest, root=PROJECT.root).manifest.models
        texts[selection.trial_models] = trial.overlay(arch, models)
    guide = PROJECT.root / "docs" / "krita.md"
    try:
        texts[guide] = connecting.fill_in(read(guide))
    except ValueError as error:
        raise ManifestError(f"docs/krita.md: {error}", "restore the markers, then run `invoke generate`") from None
    return texts
