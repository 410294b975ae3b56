"""`invoke build`: build an image from a selection, and describe the result."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from gesso import proc
from gesso.builder.image import bake, buildx, engine
from gesso.builder.image import context as render
from gesso.builder.image import spares as spare
from gesso.builder.image.bake import Baked, Baking
from gesso.builder.image.plan import Plan, own_files, plan
from gesso.builder.lock import lock_files, remote_facts
from gesso.builder.lock.sources import SourceCache
from gesso.errors import BuildError, FetchError, ManifestError
from gesso.manifest.load import load
from gesso.models.wanted import from_lock
from gesso.settings import cache_root
from gesso.workflow import command as workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from gesso.builder.image.progress import Event
    from gesso.builder.lock.lock_files import Locked
    from gesso.manifest.schema import Manifest
    from gesso.models.events import Event as ModelEvent
    from gesso.settings import Project, Selection

_REQUIRED_SPACE = {True: 3_000_000_000, False: 16_000_000_000}  # bytes, by trial: image, build cache and reserve


@dataclass(frozen=True)
class Built:
    """The result of `invoke build`."""

    arch: str
    trial: bool
    tags: tuple[str, ...]
    image: buildx.Image
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return the documented keys of `--json`."""
        return {**asdict(self.image), "arch": self.arch, "trial": self.trial, "tags": list(self.tags),
                "seconds": round(self.seconds, 1)}  # fmt: skip


def check_workflows(project: Project, manifest: Manifest) -> None:
    """Check the workflows against the models: one that mixes families never gets into an image.

    Raises ManifestError with every finding.
    """
    found = workflow.check_project(project, manifest, read_workflows(project, manifest))
    if found:
        raise ManifestError("\n".join(found), "fix the workflow or the manifest (docs/reference.md: workflow check)")


def prepare(selection: Selection) -> tuple[Manifest, Locked]:
    """Load the manifest and its lock. No network, no engine.

    Raises ManifestError and LockError.
    """
    manifest = load(selection.manifest, selection.layers, root=selection.project.root).manifest
    return manifest, lock_files.read_fresh(selection, manifest)


def decide(
    project: Project,
    manifest: Manifest,
    locked: Locked,
    *,
    base: str,
    wheel: str,
    baked: Sequence[str] = (),
    spares: Mapping[str, Mapping[str, Any]] | None = None,
) -> Plan:
    """Make the plan from the project's files; `baked`: the names of the models that become layers."""
    own = {name: read_text(project.locks / f"{name}.lock.txt") for name in ("gesso", "tools")}
    return plan(
        manifest,
        locked,
        base=base,
        wheel=wheel,
        own_pins=own,
        workflows=read_workflows(project, manifest),
        revision=_revision(project),
        baked=baked,
        spares=spares,
        trees=project_trees(project, manifest, locked),
    )


def project_trees(project: Project, manifest: Manifest, locked: Locked) -> dict[str, str]:
    """Return the tree ID of each node pack that is a folder of this project, as a trial's stand-ins are.

    Not where an install script adds files to the pack.
    """
    loose = {node.name for node in manifest.nodes if node.install}
    folders = {name: project.root / s.path for name, s in locked.lock.nodes.items() if s.path and name not in loose}
    found = {name: spare.tree_of(folder) for name, folder in folders.items()}
    return {name: tree for name, tree in found.items() if tree is not None}


def read_workflows(project: Project, manifest: Manifest) -> dict[str, str]:
    """Read each workflow in both formats.

    Raises ManifestError that names the missing files, or one that is not text.
    """
    names = [f"{each.name}{suffix}" for each in manifest.workflows for suffix in (".json", ".api.json")]
    missing = [name for name in names if not (project.workflows / name).is_file()]
    if missing:
        raise ManifestError(f"workflows/: no such file: {', '.join(missing)}", "add it, or correct `workflows`")
    return {name: workflow.read_text(project.workflows / name) for name in names}


def base_reference(locked: Locked) -> str:
    """Return the reference for FROM. No network."""
    base = locked.lock.base
    return f"gesso-base:{base.bootstrap}" if base.bootstrap else f"{base.image}@{base.digest}"


def write_context(
    selection: Selection, target: Path, env: Mapping[str, str], on_progress: Callable[[str], None]
) -> Plan:
    """Write the whole build context of a selection to a folder.

    Raises ManifestError, LockError, FetchError, VerifyError.
    """
    manifest, locked = prepare(selection)
    return _write_context(selection, (manifest, locked), base_reference(locked), target, env, on_progress, Baked())


def _write_context(
    selection: Selection,
    prepared: tuple[Manifest, Locked],
    base: str,
    target: Path,
    env: Mapping[str, str],
    on_progress: Callable[[str], None],
    baked: Baked,
) -> Plan:
    manifest, locked = prepared
    check_workflows(selection.project, manifest)
    lock = locked.lock
    on_progress("sources: from the cache, or git")
    inputs = render.collect(selection.project, SourceCache(cache_root(env)), lock.comfyui, lock.nodes)
    loose = frozenset(node.name for node in manifest.nodes if node.install)
    own = own_files(locked, read_workflows(selection.project, manifest))
    rootfs = selection.project.images / "rootfs"
    spares = spare.make(inputs.comfyui, inputs.nodes, loose, own, rootfs, cache_root(env) / "spares")
    trial_models = manifest.models if manifest.trial else ()
    inputs = replace(inputs, baked=baked, trial_models=trial_models, spares=spares)
    decided = decide(
        selection.project,
        manifest,
        locked,
        base=base,
        wheel=inputs.wheel.name,
        baked=[model.name for model in baked.models],
        spares={each.name: each.as_record() for each in spares},
    )
    render.write_context(decided, inputs, selection.project.images, target)
    return decided


@dataclass(frozen=True)
class Callbacks:
    """Receivers of progress: lines, events of the build, and events of models being fetched into the store."""

    on_progress: Callable[[str], None]
    on_event: Callable[[Event], None]
    on_model: Callable[[ModelEvent], None] = lambda _: None


def build(
    selection: Selection,
    env: Mapping[str, str],
    callbacks: Callbacks,
    *,
    builder: str | None = None,
    names: tuple[str, ...] = (),
    caches: buildx.Caches | None = None,
    baking: Baking | None = None,
) -> Built:
    """Build an image and load it into the engine; `names` are further tags, `baking` chooses the models to bake.

    Raises GessoError of every kind.
    """
    started = time.monotonic()
    manifest, locked = prepare(selection)
    chosen = bake.choose(from_lock(manifest, locked.lock), baking or Baking())
    found = engine.find()
    callbacks.on_progress(f"engine {found.version}, buildx {found.buildx}")
    engine.require_space(found, _REQUIRED_SPACE[manifest.trial] + 2 * sum(model.size or 0 for model in chosen))
    base = _base_image(selection, manifest, locked, callbacks.on_progress)
    baked = bake.bake(selection.project, chosen, env, callbacks.on_model, is_trial=manifest.trial)
    # All builds of an image share a folder: BuildKit then sends only what changed since the last one.
    context = cache_root(env) / "contexts" / f"{selection.arch}{'-trial' * manifest.trial}"
    context.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{context}.lock"):
        shutil.rmtree(context, ignore_errors=True)
        decided = _write_context(selection, (manifest, locked), base, context, env, callbacks.on_progress, baked)
        tags = (*decided.tags, *names)
        digest = buildx.build(context, tags, env=env, builder=builder, on_event=callbacks.on_event, caches=caches)
    image = buildx.inspect(tags[0], digest)
    return Built(selection.arch, decided.trial, tags, image, time.monotonic() - started)


def _base_image(selection: Selection, manifest: Manifest, locked: Locked, on_progress: Callable[[str], None]) -> str:
    """Return the base image's reference, made or checked; fail here, within seconds, where it is unavailable."""
    base = locked.lock.base
    if base.bootstrap is not None:
        try:
            return engine.bootstrap_base(base.bootstrap, on_progress)
        except BuildError as error:
            if not manifest.trial:
                raise
            on_progress(f"{error.message}: the trial uses the published base instead")
            base = prepare(selection.without_trial)[1].lock.base
    reference = f"{base.image}@{base.digest}"
    if not proc.run(["docker", "image", "inspect", reference], timeout=30).ok:
        try:
            remote_facts.query_registry(reference)
        except remote_facts.OutOfReachError as error:
            raise FetchError(
                f"base image {base.image} cannot be pulled: {error}",
                "check that its registry can be reached; without one, `base.bootstrap` makes a base (docs/operator.md)",
            ) from None
    return reference


def read_text(path: Path) -> str:
    """Read a file written by `invoke lock`. Raises BuildError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BuildError(f"{path.name}: {error.strerror}", "run `invoke lock`") from None
    except UnicodeDecodeError:
        raise BuildError(f"{path.name}: not UTF-8 text", "run `invoke lock`") from None


def _revision(project: Project) -> str | None:
    result = proc.run(["git", "-C", project.root, "rev-parse", "HEAD"], timeout=10)
    return result.stdout.strip() if result.ok else None


def push(reference: str, on_progress: Callable[[str], None]) -> None:
    """Push a tag to its registry.

    Raises BuildError, or FetchError where the registry does not respond.
    """
    result = proc.stream(["docker", "push", reference], lambda line: on_progress(line) if "Pushed" in line else None)
    if not result.ok:
        raise FetchError(
            f"{reference}: {result.tail(1)}", "check that the registry runs, and `docker login`; then retry"
        )
