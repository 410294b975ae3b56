"""The checkout that the commands work on."""

from __future__ import annotations

from pathlib import Path

from gesso.settings import Project

PROJECT = Project(Path(__file__).resolve().parents[3])


def read(path: Path) -> str:
    """Return a file's text, empty where there is no file."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
