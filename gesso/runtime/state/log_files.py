"""The logs of an instance: their names, their files, and the end of each."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from gesso import small_files
from gesso.errors import ManifestError

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.runtime.layout import Layout

TAIL_BYTES = 256 * 1024
_COLORS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def names(layout: Layout) -> list[str]:
    """Return the names of the existing logs."""
    return sorted(path.stem for path in layout.logs.glob("*.log") if path.is_file())


def find(layout: Layout, name: str | None) -> list[Path]:
    """Return the file of one log, or of all.

    Raises ManifestError for an unknown name.
    """
    known = names(layout)
    if name is not None and name not in known:
        raise ManifestError(f"no log is named {name}", f"choose one of: {', '.join(known) or 'none yet'}")
    return [layout.logs / f"{each}.log" for each in ([name] if name else known)]


def tail(path: Path) -> str:
    """Return the end of a log, whole lines only: half a secret at the start would be recognised by nobody.

    Colors are removed, and of a line that was overwritten (a progress bar) only the last version is kept.
    """
    with small_files.open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        data = file.read(TAIL_BYTES)
    if size > TAIL_BYTES:
        data = data.partition(b"\n")[2]
    text = _COLORS.sub("", data.decode("utf-8", "replace"))
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
