"""What each invoke task does: choose, call, print. The tasks themselves are one line each (tasks.py)."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import proc, report
from gesso.builder.image import build as image_build
from gesso.builder.image import context, contract
from gesso.builder.image import trial as trial_models
from gesso.builder.image.bake import BAKES, LAYER_LIMIT, Baking
from gesso.builder.image.buildx import Caches
from gesso.builder.image.view import BuildView
from gesso.builder.lock import lock_files, own_python
from gesso.builder.lock.changes import Moved, changes, difference, markdown, python_changes
from gesso.builder.lock.python_pins import read_pins, usable_pins
from gesso.builder.lock.resolve import Resolver
from gesso.builder.lock.sources import SourceCache
from gesso.builder.remote import command as publish_heal
from gesso.builder.vast.template import render as template
from gesso.devtools import own_tests
from gesso.dotenv import with_tokens
from gesso.errors import BuildError, CheckError, LockError, ManifestError
from gesso.manifest.load import load
from gesso.manifest.lock import usable_lock
from gesso.manifest.schema import editor_schema
from gesso.settings import Project, Selection, cache_root, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gesso.builder.image.build import Built

PROJECT = Project(Path(__file__).resolve().parents[2])


def build(  # noqa: PLR0913 - one keyword for each flag of the task
    arch: str, overlays: Sequence[str], *, trial: bool, builder: str | None, tags: Sequence[str], push: bool,
    cache: bool, as_json: bool, bake: str = "none", licenses: Sequence[str] = (), layer_limit: str | None = None,
    cache_from: Sequence[str] = (), cache_to: str | None = None,
) -> None:  # fmt: skip
    """Build one image and print what it is."""
    baking = _baking(bake, licenses, layer_limit)
    caches = Caches(cache, tuple(cache_from), cache_to)
    if push and not tags:
        raise ManifestError("--push needs to know where to", "add --tag REGISTRY/NAME:TAG")
    if push and trial and not all(tag.startswith(("localhost:", "127.0.0.1:")) for tag in tags):
        raise ManifestError("a trial image is never published", "build without --trial, or push to localhost")
    selection = select(PROJECT, arch, overlays, trial=trial)
    with BuildView() as view:
        built = image_build.build(
            selection, os.environ, image_build.Tell(view.say, view.on_event, view.on_model), builder=builder,
            names=tuple(tags), caches=caches, baking=baking,
        )  # fmt: skip
        for tag in tags if push else ():
            view.say(f"pushing {tag}")
            image_build.push(tag, view.say)
    if as_json:
        report.result_json(built.as_json())
    else:
        report.result(_describe(built))


def _baking(which: str, licenses: Sequence[str], layer_limit: str | None) -> Baking:
    if which not in BAKES:
        raise ManifestError(f"--bake {which}: no such choice", f"choose one of: {', '.join(BAKES)}")
    return Baking(which, tuple(licenses), bytes_of(layer_limit))


def bytes_of(layer_limit: str | None) -> int:
    """Read `--layer-limit`, in GB."""
    try:
        limit = LAYER_LIMIT if layer_limit is None else int(float(layer_limit) * 1e9)
        if limit <= 0:
            raise ValueError(limit)
    except (ValueError, OverflowError):
        raise ManifestError(f"--layer-limit {layer_limit}: not a size", "give gigabytes, such as 10") from None
    return limit


def _describe(built: Built) -> str:
    image = built.image
    rows = [
        f"{'TRIAL ' * built.trial}image  {', '.join(built.tags)}",
        f"id      {image.image_id}",
        f"digest  {image.digest or 'none until it is pushed'}",
        f"size    {image.size / 1e9:.2f} GB in {len(image.layers)} layers",
        *(f"  {layer.size / 1e6:9,.1f} MB  {layer.made_by[:88]}" for layer in image.layers),
        f"time    {built.seconds:.1f} s",
        f"try it  docker run --rm -p 127.0.0.1:8188:8188 --name gesso {built.tags[0]}",
        "        docker exec gesso gesso url",
    ]
    return "\n".join(rows)


def check() -> None:
    """Check all that can be checked without network or engine, and name every problem found."""
    problems: list[str] = []
    for arch in PROJECT.archs():
        for trial in (False, True):
            problems += _problems_of(Selection(PROJECT, arch, (), trial))
    problems += [f"{name}.lock.txt is stale: run `invoke lock`" for name in own_python.stale(PROJECT)]
    try:
        drifted = [path for path, text in _generated().items() if _read(path) != text]
    except ManifestError as error:
        problems.append(str(error))
    else:
        problems += [f"{path.relative_to(PROJECT.root)} is out of date: run `invoke generate`" for path in drifted]
    if problems:
        raise CheckError("\n".join(dict.fromkeys(problems)), "mend these, then run `invoke check` again")
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
    """Name every architecture that has a manifest; as JSON in one line, as a CI takes it for a matrix."""
    report.result(json.dumps(PROJECT.archs()) if as_json else "\n".join(PROJECT.archs()))


def lock(
    arch: str | None, overlays: Sequence[str], *, trial: bool, upgrade: bool, check_only: bool,
    summary: str | None = None,
) -> None:  # fmt: skip
    """Make locks (all, or one architecture's), or with `check_only` say offline whether they are fresh.

    `summary` names a file that gets what moved, in Markdown.
    """
    if summary and (check_only or not Path(summary).absolute().parent.is_dir()):
        raise ManifestError("--summary has no place", "give a file in a folder that is there, and leave out --check")
    archs = [arch] if arch else PROJECT.archs()
    trials = [trial] if arch or trial or overlays else [False, True]
    selections = [select(PROJECT, name, overlays, trial=kind) for name in archs for kind in trials]
    if check_only:
        for selection in selections:
            image_build.prepare(selection)
            report.result(f"fresh: {selection.lock.name}")
        if stale := own_python.stale(PROJECT):
            raise LockError(f"stale: {', '.join(stale)}", "run `invoke lock`")
        return
    moved: list[Moved] = []
    if not overlays:
        for path, text in own_python.make(PROJECT, upgrade=upgrade).items():
            moved.append(Moved(path.name, python_changes(usable_pins(_read(path)), read_pins(text))))
            lock_files.replace(path, text)
            report.result(f"wrote {path.relative_to(PROJECT.root)}")
    for selection in selections:
        moved += _lock_one(selection, upgrade=upgrade)
    if summary:
        lock_files.replace(Path(summary).absolute(), markdown(moved))


def _lock_one(selection: Selection, *, upgrade: bool) -> list[Moved]:
    manifest = load(selection.manifest, selection.layers, root=PROJECT.root).manifest
    old, old_pins = usable_lock(selection.lock), usable_pins(_read(selection.python_lock))
    sources, tokens = SourceCache(cache_root(os.environ)), with_tokens(PROJECT.root, os.environ)
    resolver = Resolver(selection, manifest, sources, tokens, report.say, upgrade=upgrade)
    new, text = resolver.resolve()
    changed = lock_files.write(selection, new, text)
    for line in difference(old, new, old_pins, read_pins(text)):
        report.result(line)
    for name, reason in resolver.unconfirmed.items():
        report.result(f"not confirmed: {name}: {reason}")
    report.result(f"{selection.lock.name}: {'written' if changed else 'unchanged'}")
    return [
        Moved(selection.lock.name, changes(old, new) if old else (), tuple(resolver.unconfirmed.items())),
        Moved(selection.python_lock.name, python_changes(old_pins, read_pins(text))),
    ]


def render_context(arch: str, overlays: Sequence[str], out: str, *, trial: bool) -> None:
    """Write the exact build context to a folder."""
    selection = select(PROJECT, arch, overlays, trial=trial)
    plan = image_build.write_context(selection, Path(out), os.environ, report.say)
    report.result(f"{out}: docker buildx build --tag {plan.tags[0]} {out}")


def generate() -> None:
    """Write the files that are made from others."""
    for path, text in _generated().items():
        path.parent.mkdir(exist_ok=True)
        if _read(path) != text:
            lock_files.replace(path, text)
            report.result(f"wrote {path.relative_to(PROJECT.root)}")


def _generated() -> dict[Path, str]:
    """Give every generated file's text, from the files that it is made from.

    Raises ManifestError where those cannot be read.
    """
    texts = {PROJECT.manifests / "schema.json": json.dumps(editor_schema(), indent=1, sort_keys=True) + "\n"}
    for arch in PROJECT.archs():
        selection = Selection(PROJECT, arch)
        models = load(selection.manifest, root=PROJECT.root).manifest.models
        texts[selection.trial_models] = trial_models.overlay(arch, models)
    return texts


def test(arch: str | None, overlays: Sequence[str], ask: contract.Ask, *, trial: bool) -> None:
    """Run the project's own tests, or with `arch` the contract of a built image (`only` a part of it)."""
    os.chdir(PROJECT.root)
    if arch is not None:
        selection = select(PROJECT, arch, overlays, trial=trial)
        contract.run(selection, ask, os.environ)
    elif ask == contract.Ask():
        own_tests.run()
    else:
        flags = "--image, --only, --own, --workers, --junit, --json and --sabotage"
        raise ManifestError(f"{flags} need --arch: what the image should be", "add --arch NAME")


def real_run(only: str | None = None) -> None:
    """Run the tests with the real ComfyUI (`only` a part of them). Without its sources it is skipped: no pass."""
    missing = [name for name in ("GESSO_COMFYUI", "GESSO_HEADERS") if not os.environ.get(name)]
    if any(name.startswith("GESSO_REAL_IMAGE_") for name in os.environ):
        missing = [name for name in missing if name == "GESSO_HEADERS"]  # there is a part that wants no checkout
    if missing:
        raise CheckError(
            f"the real run was SKIPPED, nothing is shown: {' and '.join(missing)} not set",
            "name the sources as docs/maintainer.md says (Workflows, The real image), or do without",
        )
    words = ["-k", only] if only else []
    _run("real run", [sys.executable, "-m", "pytest", "tests/real", "-s", "-p", "no:cacheprovider", *words])


def registry_run(only: str | None = None) -> None:
    """Publish trial images to a real registry on this machine (`only` a part of the tests)."""
    words = ["-k", only] if only else []
    _run("registry tests", [sys.executable, "-m", "pytest", "tests/registry", "-p", "no:cacheprovider", *words])


def _run(name: str, command: Sequence[str]) -> None:
    if not proc.stream(command, report.result, cwd=PROJECT.root).ok:
        raise CheckError(f"{name} failed", "the output above says why")


def heal(wish: publish_heal.Wish) -> None:
    """Heal a running instance, gesso's own or a foreign one; end with the code of what was done there."""
    if code := publish_heal.heal(PROJECT, wish, os.environ, report.say):
        raise SystemExit(code)


def clean(*, models: bool) -> None:
    """Remove the caches of sources and build contexts (not the engine's images), and of models where told."""
    root = cache_root(os.environ)
    for name in ("contexts", "git", "real", "sources", *["models"] * models):
        shutil.rmtree(root / name, ignore_errors=True)
    report.result(f"removed the caches in {root}")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def bench(what: str, arch: str, overlays: Sequence[str], *, rounds: int) -> None:
    """Run a benchmark: of the image's build, size and start, of fetching, or of a start that fetches."""
    if what == "fetch":
        _run("bench", [sys.executable, "-m", "bench.fetch", "--rounds", str(rounds)])
    elif what in {"image", "start"}:
        selection = select(PROJECT, arch, overlays)
        words = [str(path.resolve()) for path in selection.overlays]
        module = {"image": "bench.image_build", "start": "bench.start"}[what]
        _run("bench", [sys.executable, "-m", module, arch, str(rounds), *words])
    else:
        raise ManifestError(f"bench {what}: no such benchmark", "choose one of: image, fetch, start")
