"""Write a build context: the rendered Dockerfile and all that it copies, in one folder that any builder takes."""

from __future__ import annotations

import shutil
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jinja2

from gesso import proc
from gesso.errors import BuildError, ManifestError

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.image.plan import Plan
    from gesso.image.sources import SourceCache
    from gesso.manifest.lock import LockedSource
    from gesso.settings import Project

# Empty, so that nothing is left out of the context by a rule that somebody keeps for another purpose.
_IGNORE = "# everything in this folder belongs to the build\n"
_JUNK = shutil.ignore_patterns("__pycache__", "*.pyc", ".git", ".DS_Store")


@dataclass(frozen=True)
class Inputs:
    """The folders that a context is filled from."""

    comfyui: Path
    nodes: dict[str, Path]
    wheel: Path


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


def own_wheel(project: Project) -> Path:
    """Make the wheel of this very checkout; hatchling makes the same bytes from the same files."""
    folder = project.root / ".venv" / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    command: list[str | Path] = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
    result = proc.run(command, cwd=project.root, env={"SOURCE_DATE_EPOCH": "1767225600"}, timeout=120)
    wheels = sorted(folder.glob("*.whl"))
    if not result.ok or len(wheels) != 1:
        raise BuildError(f"gesso's own wheel could not be made: {result.tail()}", "run `python3 build.py test`")
    return wheels[0]


def write_context(plan: Plan, inputs: Inputs, images: Path, target: Path) -> None:
    """Fill the empty or absent folder `target`.

    Raises ManifestError where it holds something already, so that nothing of a person's is lost.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ManifestError(f"{target}: is not an empty folder", "choose another --out, or empty it yourself")
    text = dockerfile(plan, images)
    target.mkdir(parents=True, exist_ok=True)
    files = {"Dockerfile": text, ".dockerignore": _IGNORE, **plan.files}
    for name, content in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    for name in ("build", "rootfs"):
        shutil.copytree(images / name, target / name, symlinks=True, ignore=_JUNK)
    shutil.copy(inputs.wheel, target / "gesso" / inputs.wheel.name)
    shutil.copytree(inputs.comfyui, target / "sources" / "ComfyUI", symlinks=True, ignore=_JUNK)
    for name, folder in inputs.nodes.items():
        shutil.copytree(folder, target / "sources" / "nodes" / name, symlinks=True, ignore=_JUNK)
