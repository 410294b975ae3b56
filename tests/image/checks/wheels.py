"""Compare packages with the locked wheels from an index, because their own records may have been changed, too."""

from __future__ import annotations

import csv
import re
import zipfile
from io import StringIO
from typing import TYPE_CHECKING

from gesso.builder.lock.python_pins import grouped, read_pins

from . import python
from .expected import some

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gesso.builder.lock.python_pins import Pin

    from .expected import Expected
    from .image_snapshot import ImageSnapshot

_HEAVY = {"cuda-math", "cuda", "torch"}  # gigabytes of wheels: not fetched for a test
_MADE = re.compile(r"[^/]+\.dist-info/(INSTALLER|REQUESTED|RECORD|direct_url\.json|uv_\w+\.json)\Z|(\.\./)+bin/[^/]+\Z")
_PLACED = re.compile(r"[^/]+\.data/(purelib|platlib)/")
_ELSEWHERE = re.compile(r"[^/]+\.data/")


def pins_of(expected: Expected) -> dict[str, tuple[Pin, ...]]:
    """Return the packages to compare, by venv: all except the manifest's layers for CUDA and torch."""
    project = expected.selection.project
    groups = grouped(expected.locked.pins, expected.manifest.python.layers)
    light = tuple(pin for name, pins in groups.items() if name not in _HEAVY for pin in pins)
    return {
        python.VENV: light,
        python.OWN_VENV: read_pins((project.locks / "gesso.lock.txt").read_text(encoding="utf-8")),
    }


def differing(snapshot: ImageSnapshot, folder: str, wheels: Iterable[Path]) -> list[str]:
    """Compare the installed packages in a folder with these wheels, both ways."""
    rows: dict[str, dict[str, str]] = {}
    for name, path, recorded in python.records(snapshot, folder):
        rows.setdefault(name, {})[path] = recorded
    problems = []
    for wheel in sorted(wheels):
        name, contents = _contents(wheel, folder)
        have = {path: entry.sha256 for path in rows.get(name, {}) if (entry := snapshot.files.get(path)) is not None}
        problems += [f"{wheel.name}: {path} is not out of it" for path, sha256 in contents.items()
                     if python.encoded(have.get(path, "")) != sha256]  # fmt: skip
        problems += [f"{wheel.name}: {path} is recorded, but not in it" for path in have.keys() - contents.keys()
                     if not _made(path, folder)]  # fmt: skip
    return some(problems)


def _made(path: str, folder: str) -> bool:
    """Return whether an installer created it."""
    inside = path.removeprefix(folder)
    venv = folder.partition("/lib/python")[0]
    return path.endswith(".pyc") or bool(_MADE.fullmatch(inside)) or not path.startswith(f"{venv}/lib/")


def _contents(wheel: Path, folder: str) -> tuple[str, dict[str, str]]:
    """Return the distribution's name as in its folder, and the hash of each file by its installed path."""
    with zipfile.ZipFile(wheel) as archive:
        (record,) = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", name)]
        text = archive.read(record).decode("utf-8")
    hashes = {}
    for path, recorded, _ in csv.reader(StringIO(text)):
        placed = _PLACED.sub("", path, count=1)
        if recorded and not _ELSEWHERE.match(placed):
            hashes[f"{folder}{placed}"] = recorded.removeprefix("sha256=")
    return record.rpartition(".dist-info/")[0], hashes
