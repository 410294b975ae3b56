"""What a heal puts aside: files of the code that were not as built. Kept for a while, within a limit."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.runtime.layout import Layout

KEEP = 1 << 30  # bytes; the oldest go first. Models have a quarantine of their own


def folder(layout: Layout, name: str) -> Path:
    """Where the heal of this name puts things."""
    return layout.state / "aside" / name


def trim(layout: Layout, keep: int = KEEP) -> None:
    """Let the oldest go until at most `keep` bytes are left."""
    with contextlib.suppress(OSError):
        folders = sorted((layout.state / "aside").iterdir(), reverse=True)  # names begin with the time
        total = 0
        for each in folders:
            total += sum(path.lstat().st_size for path in each.rglob("*"))
            if total > keep:
                shutil.rmtree(each, ignore_errors=True)
