"""Write a file that only its owner can read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gesso import small_files

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str) -> None:
    """Write `path` in one step, with mode 0600. Raises OSError."""
    temporary = path.with_name(f"{path.name}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
        os.fchmod(handle, 0o600)  # an old temporary file would have kept its mode
        file.write(text)
    temporary.replace(path)


def read(path: Path) -> str:
    """Return a small file's text without the line end; empty if it is missing, unreadable or not ASCII."""
    try:
        return small_files.read(path).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
