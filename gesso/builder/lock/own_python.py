"""gesso's own Python, locked: what it needs in the image, the tools that build one, and the builder's environment."""

from __future__ import annotations

import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import proc
from gesso.builder.lock.python_pins import PLATFORM, UV_COMPILE, usable_pins
from gesso.errors import LockError
from gesso.manifest.lock import checksum

if TYPE_CHECKING:
    from gesso.settings import Project

_HEADER = "# made by `invoke lock` from pyproject.toml; inputs "


@dataclass(frozen=True)
class Own:
    """One of gesso's own locks: its name, what it asks for, and for which platform it is resolved."""

    name: str
    requirements: tuple[str, ...]
    options: tuple[str, ...]

    @property
    def header(self) -> str:
        """The first line of the lock, which carries the checksum of what it was made from."""
        return f"{_HEADER}{checksum([self.requirements, self.options])}\n"


def wanted(project: Project) -> tuple[Own, ...]:
    """Read pyproject.toml for what each lock must satisfy."""
    data = tomllib.loads((project.root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = data["optional-dependencies"]
    image = ("--python-version", "3.13", "--python-platform", PLATFORM)
    builder = ("--python-version", "3.11", "--universal")
    tools = tuple(line for line in extras["builder"] if line.startswith("uv"))
    everything = (*data["dependencies"], *extras["builder"], *extras["test"])
    return (
        Own("gesso", (*data["dependencies"], *extras["image"]), image),
        Own("tools", tools, image),
        Own("builder", everything, builder),
    )


def stale(project: Project) -> list[str]:
    """Name the locks that are missing or were made from other requirements. No network."""
    return [own.name for own in wanted(project) if not _current(project, own)]


def _current(project: Project, own: Own) -> bool:
    path = project.locks / f"{own.name}.lock.txt"
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace").startswith(own.header)


def make(project: Project, *, upgrade: bool = False) -> dict[Path, str]:
    """Resolve those that are stale (all, with `upgrade`) and give their new texts by path.

    Raises LockError.
    """
    todo = [own for own in wanted(project) if upgrade or not _current(project, own)]
    return {project.locks / f"{own.name}.lock.txt": _compile(project, own, upgrade=upgrade) for own in todo}


def _compile(project: Project, own: Own, *, upgrade: bool) -> str:
    existing = project.locks / f"{own.name}.lock.txt"
    with tempfile.TemporaryDirectory(prefix="gesso-lock-") as scratch:
        folder = Path(scratch)
        (folder / "requirements.in").write_text("\n".join(own.requirements) + "\n", encoding="utf-8")
        output = folder / "lock.txt"
        known = existing.read_text(encoding="utf-8", errors="replace") if existing.is_file() else ""
        if usable_pins(known) and not upgrade:
            output.write_text(known, encoding="utf-8")
        command = [
            *UV_COMPILE, "--no-header", "--no-annotate", *own.options, "--output-file", output.name, "requirements.in",
        ]  # fmt: skip
        result = proc.run(command, cwd=folder, timeout=600)
        if not result.ok:
            raise LockError(f"{own.name}.lock.txt: {result.tail(4)}", "correct pyproject.toml, or check the network")
        return own.header + output.read_text(encoding="utf-8")
