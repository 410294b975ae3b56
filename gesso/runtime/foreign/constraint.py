"""Prevent SQLAlchemy from being replaced again: a constraint for pip and for uv, each with its own configuration.

It constrains SQLAlchemy alone: everything else on such an instance belongs to the user.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gesso.runtime import atomic
from gesso.runtime.prepare import environment
from gesso.runtime.prepare.guard import GUARDED

if TYPE_CHECKING:
    from gesso.runtime.foreign.paths import ForeignLayout

FILE = "gesso-constraints.txt"
_HEADER = "# gesso: keeps node packs from replacing SQLAlchemy; remove it together with what names it\n"
_ETC = Path("/etc")


@dataclass(frozen=True)
class Constraint:
    """The constraint files of one instance."""

    layout: ForeignLayout
    version: str
    etc: Path = _ETC

    @property
    def file(self) -> Path:
        """The constraints file."""
        return self.layout.python.prefix / FILE if self.layout.python.venv else self.etc / FILE

    @property
    def pip_conf(self) -> Path:
        """The configuration that every pip of this Python reads."""
        return self.layout.python.prefix / "pip.conf" if self.layout.python.venv else self.etc / "pip.conf"

    @property
    def environment_file(self) -> Path:
        """The environment of every later login session."""
        return self.etc / "environment"

    def expected(self) -> dict[Path, str]:
        """Return the expected text of each file. Raises OSError and UnicodeDecodeError."""
        return {
            self.file: f"{_HEADER}{GUARDED}=={self.version}\n",
            self.pip_conf: with_constraint(_read(self.pip_conf), str(self.file)),
            self.environment_file: with_variables(
                _read(self.environment_file),
                str(self.file),
                for_pip=not has_other_constraints(_read(self.pip_conf), str(self.file)),
            ),
        }

    def outdated(self) -> list[Path]:
        """Return the writable files whose text differs from the expected one."""
        try:
            return [path for path, text in self.expected().items() if _read(path) != text and _writable(path)]
        except (OSError, UnicodeDecodeError):
            return []

    def write(self) -> None:
        """Write the outdated files. Raises OSError."""
        expected = self.expected()
        for path in self.outdated():
            mode = path.stat().st_mode & 0o777 if path.is_file() else 0o644  # a pip.conf may hold a password
            atomic.write_bytes(path, expected[path].encode(), mode)


def with_constraint(before: str, file: str) -> str:
    """Add a constraint to the text of a pip.conf; all other lines stay as they are. Pure."""
    lines = before.splitlines(keepends=True)
    if any(file in line for line in lines):
        return before
    for number, line in enumerate(lines):
        if re.match(r"constraint\s*[=:]", line):  # pip accepts several, one per line
            lines.insert(number + 1, f"    {file}\n")
            if not line.endswith("\n"):
                lines[number] += "\n"
            return "".join(lines)
    for number, line in enumerate(lines):
        if line.strip() == "[global]":
            lines[number] = f"{line.rstrip()}\n"
            lines.insert(number + 1, f"constraint = {file}\n")
            return "".join(lines)
    return f"{before}{'' if not before or before.endswith(chr(10)) else chr(10)}[global]\nconstraint = {file}\n"


def has_other_constraints(text: str, file: str) -> bool:
    """Return whether a pip.conf has other constraints than `file`. Pure."""
    match = re.search(r"^constraint\s*[=:](.*(?:\n[ \t]+\S.*)*)", text, re.MULTILINE)
    return match is not None and bool([path for path in match[1].split() if path != file])


def with_variables(before: str, file: str, *, for_pip: bool) -> str:
    """Add the variables to the text of /etc/environment, except those that a user set there. Pure.

    pip's variable overrides its configuration: where that has other constraints, they must stay in effect.
    """
    user_lines = environment.without_block(before)
    names = ["UV_CONSTRAINT", *["PIP_CONSTRAINT"] * for_pip]
    unset = [name for name in names if not re.search(rf"^(export )?{name}=", user_lines, re.MULTILINE)]
    return environment.updated(before, dict.fromkeys(unset, file)) if unset else user_lines


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _writable(path: Path) -> bool:
    return os.access(path if path.exists() else path.parent, os.W_OK) and os.access(path.parent, os.W_OK)
