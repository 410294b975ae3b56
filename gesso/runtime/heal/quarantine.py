"""What was put aside: files of the code and workflows that were not the locked ones. Kept within a limit."""

from __future__ import annotations

import contextlib
import shutil
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.runtime.layout import Layout

KEEP = 1 << 30  # bytes; the oldest go first. Models have a quarantine of their own


def folder(layout: Layout, name: str) -> Path:
    """Where the heal of this name puts things."""
    return layout.state / "aside" / name


def trim(layout: Layout, keep: int = KEEP) -> None:
    """Let the oldest go until at most `keep` bytes are left; what came last stays, whatever its size."""
    entries: list[tuple[float, Path]] = []
    for kept in (layout.state / "aside", layout.state / "replaced"):
        with contextlib.suppress(OSError):
            entries += [(path.lstat().st_mtime, path) for path in kept.iterdir()]
    total = 0
    for number, (_, path) in enumerate(sorted(entries, reverse=True)):
        total += _size(path)
        if total > keep and number:
            _remove(path)


def _size(path: Path) -> int:
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    total = 0
    for each in inside:
        with contextlib.suppress(OSError):
            found = each.lstat()
            total += 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    return total


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
