"""Write a file that only its owner can read."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from gesso import small_files

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str) -> None:
    """Write `path` in one step, with mode 0600; several programs may do so at the same time. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def read(path: Path) -> str:
    """Return a small file's text without the line end; empty if it is missing, unreadable or not ASCII."""
    try:
        return small_files.read(path).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
