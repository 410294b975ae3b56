"""The quarantine of code and workflows that differed from the locked ones. Its size is limited."""

from __future__ import annotations

import contextlib
import shutil
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.runtime.layout import Layout

MAX_BYTES = 1 << 30  # the oldest are removed first. Models have a quarantine of their own


def folder(layout: Layout, heal_id: str) -> Path:
    """Return the quarantine folder of one heal."""
    return layout.state / "aside" / heal_id


def trim(layout: Layout, max_bytes: int = MAX_BYTES) -> None:
    """Remove the oldest entries until at most `max_bytes` are left; the newest stays, whatever its size."""
    entries: list[tuple[float, Path]] = []
    for parent in (layout.state / "aside", layout.state / "replaced"):
        with contextlib.suppress(OSError):
            entries += [(path.lstat().st_mtime, path) for path in parent.iterdir()]
    total = 0
    for number, (_, path) in enumerate(sorted(entries, reverse=True)):
        total += _size(path)
        if total > max_bytes and number:
            _remove(path)


def _size(path: Path) -> int:
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    total = 0
    for each in inside:
        with contextlib.suppress(OSError):
            status = each.lstat()
            total += 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return total


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
