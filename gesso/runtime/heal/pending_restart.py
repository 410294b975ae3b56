"""A file that marks a pending restart of ComfyUI: where a heal is killed before the restart, the next one does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso.errors import CheckError

if TYPE_CHECKING:
    from pathlib import Path


def mark(path: Path) -> None:
    """Create the file, before the first repair that requires the restart. Raises CheckError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise CheckError(f"{path}: {error.strerror}", "make room on the disk") from None
