"""gesso's own package for an instance: without the builder and the development tools."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import proc
from gesso.builder.image.plan import EPOCH
from gesso.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Collection

    from gesso.settings import Project

PACKAGE = "gesso"
NOT_IN_IMAGE = frozenset({"builder", "devtools"})  # subpackages
_METADATA = ("pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True)
class Wheel:
    """gesso's own wheel: file name and content."""

    name: str
    content: bytes


def copy_package(source: Path, target: Path, without: Collection[str] = ()) -> None:
    """Copy the package folder `source` to `target`, except NOT_IN_IMAGE and the paths in `without`."""
    left_out = {source / path for path in (*NOT_IN_IMAGE, *without)}

    def ignored(folder: str, names: list[str]) -> set[str]:
        return {
            name for name in names if Path(folder, name) in left_out or name == "__pycache__" or name.endswith(".pyc")
        }

    shutil.copytree(source, target, ignore=ignored)


def own_wheel(project: Project) -> Wheel:
    """Build the wheel for the image from this checkout, reproducibly: same files, same bytes.

    Raises BuildError.
    """
    with tempfile.TemporaryDirectory(prefix="gesso-wheel-") as folder:
        staged, out = Path(folder) / "source", Path(folder) / "out"
        staged.mkdir()
        for name in _METADATA:
            shutil.copy(project.root / name, staged)
        copy_package(project.root / PACKAGE, staged / PACKAGE)
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "hatchling",
            "build",
            "--target",
            "wheel",
            "--directory",
            out,
        ]
        result = proc.run(command, cwd=staged, env={"SOURCE_DATE_EPOCH": str(EPOCH)}, timeout=120)
        wheels = sorted(out.glob("*.whl"))
        if not result.ok or len(wheels) != 1:
            raise BuildError(f"gesso's own wheel could not be built: {result.tail()}", "run `python3 build.py test`")
        return Wheel(wheels[0].name, wheels[0].read_bytes())
