"""Packages beside the wheels that the lock names, as an index has them: their own records may have been changed too.

What is fetched is proven by the lock's hashes, so that it does not matter which index it comes from.
"""

from __future__ import annotations

import csv
import functools
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from gesso.image.pylock import grouped, read_pins

from . import python
from .expected import some

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gesso.image.pylock import Pin

    from .expected import Expected
    from .photograph import Photograph

_GLIBC = range(41, 4, -1)  # manylinux tags, the newest first: as an installer prefers them
_OLD = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_HEAVY = {"cuda-math", "cuda", "torch"}  # gigabytes of wheels: not fetched for a test
_MADE = re.compile(r"[^/]+\.dist-info/(INSTALLER|REQUESTED|RECORD|direct_url\.json|uv_\w+\.json)\Z|(\.\./)+bin/[^/]+\Z")
_PLACED = re.compile(r"[^/]+\.data/(purelib|platlib)/")
_ELSEWHERE = re.compile(r"[^/]+\.data/")
_REACH = re.compile(
    r"Retrying|Connection|Max retries|Network is unreachable|Temporary failure|timed out", re.IGNORECASE
)


def pins_of(expected: Expected) -> dict[str, tuple[Pin, ...]]:
    """Give what is looked at, by venv: all but what the manifest's layers call CUDA's and torch's."""
    project = expected.selection.project
    groups = grouped(expected.locked.pins, expected.manifest.python.layers)
    light = tuple(pin for name, pins in groups.items() if name not in _HEAVY for pin in pins)
    return {
        python.VENV: light,
        python.OWN_VENV: read_pins((project.locks / "gesso.lock.txt").read_text(encoding="utf-8")),
    }


@dataclass(frozen=True)
class Fetched:
    """Wheels in a folder that is there as long as this is; what pip complained of, where not all are there.

    `built` names what has no wheel and is built from its source by whoever installs it: nothing can be compared.
    """

    folder: tempfile.TemporaryDirectory[str]
    complaint: str
    built: tuple[str, ...]

    @property
    def wheels(self) -> list[Path]:
        return sorted(Path(self.folder.name).glob("*.whl"))

    @property
    def out_of_reach(self) -> bool:
        """Whether it failed for want of an index."""
        return bool(_REACH.search(self.complaint))


@functools.cache
def fetch(pins: tuple[Pin, ...], version: str, architecture: str) -> Fetched:
    """Have pip fetch the wheel of each pin that an installer takes for this Python and machine.

    It keeps none whose hash the lock does not have.
    """
    kept = tempfile.TemporaryDirectory(prefix="gesso-wheels-")
    folder = Path(kept.name)
    built: list[str] = []
    machine = _MACHINES[architecture]
    platforms = [f"{name}_{machine}" for minor in _GLIBC for name in (f"manylinux_2_{minor}", _OLD.get(minor)) if name]
    nodot = version.replace(".", "")
    requirements = folder / "requirements.txt"
    words = [
        *("download", "-q", "--no-deps", "--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"),
        *("--python-version", version, "--implementation", "cp"),
        *(word for abi in (f"cp{nodot}", "abi3", "none") for word in ("--abi", abi)),
        *(word for platform in platforms for word in ("--platform", platform)),
        *("-d", str(folder), "-r", str(requirements)),
    ]
    while True:
        requirements.write_text("\n".join(pin.text for pin in pins if pin.name not in built) + "\n")
        done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=False)
        missing = re.search(r"No matching distribution found for ([\w.-]+)==", done.stderr)
        if missing is None or _REACH.search(done.stderr) or missing[1] in built:
            return Fetched(kept, "" if done.returncode == 0 else done.stderr, tuple(built))
        built.append(missing[1])


def differing(photo: Photograph, folder: str, wheels: Iterable[Path]) -> list[str]:
    """Compare what is installed in a folder with these wheels, both ways."""
    rows: dict[str, dict[str, str]] = {}
    for name, path, said in python.records(photo, folder):
        rows.setdefault(name, {})[path] = said
    problems = []
    for wheel in sorted(wheels):
        name, wanted = _contents(wheel, folder)
        have = {path: entry.sha256 for path in rows.get(name, {}) if (entry := photo.files.get(path)) is not None}
        problems += [f"{wheel.name}: {path} is not out of it" for path, sha256 in wanted.items()
                     if python.encoded(have.get(path, "")) != sha256]  # fmt: skip
        problems += [f"{wheel.name}: {path} is said to be out of it, and is not" for path in have.keys() - wanted.keys()
                     if not _made(path, folder)]  # fmt: skip
    return some(problems)


def _made(path: str, folder: str) -> bool:
    """Tell whether an installer made it."""
    inside = path.removeprefix(folder)
    venv = folder.partition("/lib/python")[0]
    return path.endswith(".pyc") or bool(_MADE.fullmatch(inside)) or not path.startswith(f"{venv}/lib/")


def _contents(wheel: Path, folder: str) -> tuple[str, dict[str, str]]:
    """Give the distribution as its folder is called, and the hash of each file by where it is installed."""
    with zipfile.ZipFile(wheel) as archive:
        (record,) = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", name)]
        text = archive.read(record).decode("utf-8")
    wanted = {}
    for path, said, _ in csv.reader(StringIO(text)):
        placed = _PLACED.sub("", path, count=1)
        if said and not _ELSEWHERE.match(placed):
            wanted[f"{folder}{placed}"] = said.removeprefix("sha256=")
    return record.rpartition(".dist-info/")[0], wanted
