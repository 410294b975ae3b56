"""Locks of gesso's own Python: its requirements in the image, the build tools, and the builder's environment."""

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
class OwnLock:
    """One of gesso's own locks: its name, requirements, and uv's options for the target platform."""

    name: str
    requirements: tuple[str, ...]
    options: tuple[str, ...]

    @property
    def header(self) -> str:
        """The first line of the lock, with the checksum of its inputs."""
        return f"{_HEADER}{checksum([self.requirements, self.options])}\n"


def own_locks(project: Project) -> tuple[OwnLock, ...]:
    """Read the requirements of each lock from pyproject.toml."""
    data = tomllib.loads((project.root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = data["optional-dependencies"]
    image = ("--python-version", "3.13", "--python-platform", PLATFORM)
    builder = ("--python-version", "3.11", "--universal")
    tools = tuple(line for line in extras["builder"] if line.startswith("uv"))
    everything = (*data["dependencies"], *extras["builder"], *extras["test"])
    return (
        OwnLock("gesso", (*data["dependencies"], *extras["image"]), image),
        OwnLock("tools", tools, image),
        OwnLock("builder", everything, builder),
    )


def stale(project: Project) -> list[str]:
    """Return the names of missing and outdated locks. No network."""
    return [own.name for own in own_locks(project) if not _current(project, own)]


def _current(project: Project, own: OwnLock) -> bool:
    path = project.locks / f"{own.name}.lock.txt"
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace").startswith(own.header)


def make(project: Project, *, upgrade: bool = False) -> dict[Path, str]:
    """Resolve the stale locks (all, with `upgrade`) and return their new texts by path.

    Raises LockError.
    """
    todo = [own for own in own_locks(project) if upgrade or not _current(project, own)]
    return {project.locks / f"{own.name}.lock.txt": _compile(project, own, upgrade=upgrade) for own in todo}


def _compile(project: Project, own: OwnLock, *, upgrade: bool) -> str:
    existing = project.locks / f"{own.name}.lock.txt"
    with tempfile.TemporaryDirectory(prefix="gesso-lock-") as scratch:
        folder = Path(scratch)
        (folder / "requirements.in").write_text("\n".join(own.requirements) + "\n", encoding="utf-8")
        output = folder / "lock.txt"
        existing_text = existing.read_text(encoding="utf-8", errors="replace") if existing.is_file() else ""
        if usable_pins(existing_text) and not upgrade:
            output.write_text(existing_text, encoding="utf-8")
        command = [
            *UV_COMPILE, "--no-header", "--no-annotate", *own.options, "--output-file", output.name, "requirements.in",
        ]  # fmt: skip
        result = proc.run(command, cwd=folder, timeout=600)
        if not result.ok:
            raise LockError(f"{own.name}.lock.txt: {result.tail(4)}", "correct pyproject.toml, or check the network")
        return own.header + output.read_text(encoding="utf-8")
