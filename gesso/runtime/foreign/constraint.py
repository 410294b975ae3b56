"""What keeps SQLAlchemy from being replaced again: a constraint for pip and for uv, which each read another place.

It names SQLAlchemy alone: everything else on such an instance is not ours.
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
    from gesso.runtime.foreign.paths import Foreign

FILE = "gesso-constraints.txt"
_HEADER = "# gesso: keeps node packs from replacing SQLAlchemy; remove it together with what names it\n"
_ETC = Path("/etc")


@dataclass(frozen=True)
class Constraint:
    """The files of one instance."""

    layout: Foreign
    version: str
    etc: Path = _ETC

    @property
    def file(self) -> Path:
        """What pip and uv are led to."""
        return self.layout.python.prefix / FILE if self.layout.python.venv else self.etc / FILE

    @property
    def pip_conf(self) -> Path:
        """The settings that every pip of this Python reads."""
        return self.layout.python.prefix / "pip.conf" if self.layout.python.venv else self.etc / "pip.conf"

    @property
    def sessions(self) -> Path:
        """What every later session on the instance has in its environment."""
        return self.etc / "environment"

    def wanted(self) -> dict[Path, str]:
        """Give the text that each file should have. Raises OSError and UnicodeDecodeError."""
        return {
            self.file: f"{_HEADER}{GUARDED}=={self.version}\n",
            self.pip_conf: with_constraint(_read(self.pip_conf), str(self.file)),
            self.sessions: in_sessions(
                _read(self.sessions), str(self.file), for_pip=not others(_read(self.pip_conf), str(self.file))
            ),
        }

    def lacking(self) -> list[Path]:
        """Name the files that are not as they should be, of those that can be written."""
        try:
            return [path for path, text in self.wanted().items() if _read(path) != text and _writable(path)]
        except (OSError, UnicodeDecodeError):
            return []

    def put(self) -> None:
        """Write them. Raises OSError."""
        wanted = self.wanted()
        for path in self.lacking():
            mode = path.stat().st_mode & 0o777 if path.is_file() else 0o644  # a pip.conf may hold a password
            atomic.write_bytes(path, wanted[path].encode(), mode)


def with_constraint(before: str, file: str) -> str:
    """Add a constraint to the text of a pip.conf; other people's lines stay as they are. Pure."""
    lines = before.splitlines(keepends=True)
    if any(file in line for line in lines):
        return before
    for number, line in enumerate(lines):
        if re.match(r"constraint\s*[=:]", line):  # pip takes several, a line each
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


def others(text: str, file: str) -> bool:
    """Tell whether a pip.conf has constraints besides ours. Pure."""
    match = re.search(r"^constraint\s*[=:](.*(?:\n[ \t]+\S.*)*)", text, re.MULTILINE)
    return match is not None and bool([word for word in match[1].split() if word != file])


def in_sessions(before: str, file: str, *, for_pip: bool) -> str:
    """Add the variables to the text of /etc/environment, but for those that somebody set there. Pure.

    pip takes its variable instead of its settings: where those have other constraints, they must go on to count.
    """
    kept = environment.without_ours(before)
    names = ["UV_CONSTRAINT", *["PIP_CONSTRAINT"] * for_pip]
    free = [name for name in names if not re.search(rf"^(export )?{name}=", kept, re.MULTILINE)]
    return environment.written(before, dict.fromkeys(free, file)) if free else kept


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _writable(path: Path) -> bool:
    return os.access(path if path.exists() else path.parent, os.W_OK) and os.access(path.parent, os.W_OK)
