"""Write a build context: the rendered Dockerfile and all that it copies, in one folder that any builder takes."""

from __future__ import annotations

import shutil
import sys
import tempfile
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from gesso import proc
from gesso.builder.image import trial
from gesso.builder.image.bake import Baked
from gesso.builder.image.plan import EPOCH
from gesso.errors import BuildError, ManifestError
from gesso.models.store import lay_out

if TYPE_CHECKING:
    from gesso.builder.image.plan import Plan
    from gesso.builder.image.spares import Spare
    from gesso.builder.lock.sources import SourceCache
    from gesso.manifest.lock import LockedSource
    from gesso.manifest.schema import Model
    from gesso.settings import Project

# Empty, so that nothing is left out of the context by a rule that somebody keeps for another purpose.
_IGNORE = "# everything in this folder belongs to the build\n"
_JUNK = shutil.ignore_patterns("__pycache__", "*.pyc", ".git", ".DS_Store")


@dataclass(frozen=True)
class Wheel:
    """gesso's own wheel, by its file name."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Inputs:
    """What a context is filled from: folders of source code, and gesso's own wheel."""

    comfyui: Path
    nodes: dict[str, Path]
    wheel: Wheel
    baked: Baked = field(default_factory=Baked)
    spares: tuple[Spare, ...] = ()
    trial_models: tuple[Model, ...] = ()  # those that the trial's mirror serves


def dockerfile(plan: Plan, images: Path) -> str:
    """Render images/Dockerfile.j2; a variable that the template asks for and the plan lacks is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(images),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - a Dockerfile is no HTML; every value was checked by the manifest's patterns
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
    """Have every source in the cache, and gesso's own wheel made.

    Raises FetchError and VerifyError.
    """
    return Inputs(
        comfyui=_folder(project, sources, "ComfyUI", comfyui),
        nodes={name: _folder(project, sources, name, source) for name, source in nodes.items()},
        wheel=own_wheel(project),
    )


def _folder(project: Project, sources: SourceCache, name: str, source: LockedSource) -> Path:
    return project.root / source.path if source.path is not None else sources.tree(source, name=name)


def own_wheel(project: Project) -> Wheel:
    """Make the wheel of this very checkout; hatchling makes the same bytes from the same files."""
    with tempfile.TemporaryDirectory(prefix="gesso-wheel-") as folder:
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
        result = proc.run(command, cwd=project.root, env={"SOURCE_DATE_EPOCH": str(EPOCH)}, timeout=120)
        wheels = sorted(Path(folder).glob("*.whl"))
        if not result.ok or len(wheels) != 1:
            raise BuildError(f"gesso's own wheel could not be made: {result.tail()}", "run `python3 build.py test`")
        return Wheel(wheels[0].name, wheels[0].read_bytes())


def write_context(plan: Plan, inputs: Inputs, images: Path, target: Path) -> None:
    """Fill the empty or absent folder `target`.

    Raises ManifestError where it holds something already, so that nothing of a person's is lost.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ManifestError(f"{target}: is not an empty folder", "choose another --out, or empty it yourself")
    text = dockerfile(plan, images)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        whole = Path(scratch) / "context"
        _fill(whole, text, plan, inputs, images)
        whole.replace(target)  # all of it, or nothing


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
    _settle_modes(target)
    if inputs.baked.folder is not None:
        lay_out(inputs.baked.folder, inputs.baked.models, target / "models", times=EPOCH)


def _settle_modes(folder: Path) -> None:
    """Give files and folders the modes that git knows, so that no machine's umask ends up in a layer."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
