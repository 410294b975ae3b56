"""The restart that a repair owes ComfyUI, as a file: a heal may be killed in between, and the next one must know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso.errors import CheckError

if TYPE_CHECKING:
    from pathlib import Path


def note(path: Path) -> None:
    """Note it, before the first repair that makes it so. Raises CheckError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise CheckError(f"{path}: {error.strerror}", "make room on the disk") from None
