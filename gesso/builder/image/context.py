"""Write a build context: the rendered Dockerfile and all files that it copies, in one folder for any builder."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from gesso.builder.image import trial
from gesso.builder.image.bake import Baked
from gesso.builder.image.own_package import Wheel, own_wheel
from gesso.builder.image.plan import EPOCH
from gesso.errors import BuildError, ManifestError
from gesso.models.store import link_models

if TYPE_CHECKING:
    from gesso.builder.image.plan import Plan
    from gesso.builder.image.spares import Spare
    from gesso.builder.lock.sources import SourceCache
    from gesso.manifest.lock import LockedSource
    from gesso.manifest.schema import Model
    from gesso.settings import Project

# No rules: an inherited .dockerignore must not exclude anything from the context.
_IGNORE = "# everything in this folder belongs to the build\n"
_JUNK = shutil.ignore_patterns("__pycache__", "*.pyc", ".git", ".DS_Store")


@dataclass(frozen=True)
class Inputs:
    """Inputs of a context: folders of source code, gesso's own wheel, baked models and spares."""

    comfyui: Path
    nodes: dict[str, Path]
    wheel: Wheel
    baked: Baked = field(default_factory=Baked)
    spares: tuple[Spare, ...] = ()
    trial_models: tuple[Model, ...] = ()  # models that the trial's mirror serves


def dockerfile(plan: Plan, images: Path) -> str:
    """Render images/Dockerfile.j2; a variable that the plan lacks is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(images),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - a Dockerfile is not HTML; the manifest's patterns checked every value
    )
    try:
        return environment.get_template("Dockerfile.j2").render(plan.variables)
    except jinja2.TemplateError as error:
        steps = traceback.extract_tb(error.__traceback__)
        line = getattr(error, "lineno", None) or next(
            (s.lineno for s in reversed(steps) if s.filename.endswith(".j2")), "?"
        )
        where = f"images/Dockerfile.j2:{line}"
        raise BuildError(f"{where}: {error}", "correct the template") from None


def collect(project: Project, sources: SourceCache, comfyui: LockedSource, nodes: dict[str, LockedSource]) -> Inputs:
    """Fetch every source into the cache, and build gesso's own wheel.

    Raises FetchError and VerifyError.
    """
    return Inputs(
        comfyui=_folder(project, sources, "ComfyUI", comfyui),
        nodes={name: _folder(project, sources, name, source) for name, source in nodes.items()},
        wheel=own_wheel(project),
    )


def _folder(project: Project, sources: SourceCache, name: str, source: LockedSource) -> Path:
    return project.root / source.path if source.path is not None else sources.tree(source, name=name)


def write_context(plan: Plan, inputs: Inputs, images: Path, target: Path) -> None:
    """Fill the empty or absent folder `target`.

    Raises ManifestError where it is not empty: the user's files are never overwritten.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ManifestError(f"{target}: is not an empty folder", "choose another --out, or empty it")
    text = dockerfile(plan, images)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        context = Path(scratch) / "context"
        _fill(context, text, plan, inputs, images)
        context.replace(target)  # atomic


def _fill(target: Path, text: str, plan: Plan, inputs: Inputs, images: Path) -> None:
    target.mkdir()
    files = {"Dockerfile": text, ".dockerignore": _IGNORE, **plan.files}
    for name, content in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    for name in ("build", "rootfs"):
        shutil.copytree(images / name, target / name, symlinks=True, ignore=_JUNK)
    (target / "gesso" / inputs.wheel.name).write_bytes(inputs.wheel.content)
    shutil.copytree(inputs.comfyui, target / "sources" / "ComfyUI", symlinks=True, ignore=_JUNK)
    for name, folder in inputs.nodes.items():
        shutil.copytree(folder, target / "sources" / "nodes" / name, symlinks=True, ignore=_JUNK)
    (target / "spare").mkdir()
    for spare in inputs.spares:
        path = target / spare.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(spare.content)
    if plan.trial:
        shutil.copytree(images / "standin" / "mirror", target / "mirror" / "mirror", ignore=_JUNK)
        (target / "mirror" / "mirror" / "supervisor.conf").rename(target / "mirror" / "supervisor.conf")
        trial.write_files(inputs.trial_models, target / "mirror" / "files")
    _normalize_modes(target)
    if inputs.baked.folder is not None:
        link_models(inputs.baked.folder, inputs.baked.models, target / "models", times=EPOCH)


def _normalize_modes(folder: Path) -> None:
    """Set the modes that git records, so that layers do not depend on the umask."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
