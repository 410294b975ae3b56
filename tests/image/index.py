"""Download the locked wheels from this machine's own package index.

The lock's hashes verify the files, so any index will do.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gesso.builder.lock.python_pins import Pin

_GLIBC = range(41, 4, -1)  # manylinux tags, the newest first: as an installer prefers them
_OLD = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_REACH = re.compile(
    r"Retrying|Connection|Max retries|Network is unreachable|Temporary failure|timed out", re.IGNORECASE
)


@dataclass(frozen=True)
class Fetched:
    """Wheels in a temporary folder that lives as long as this object; pip's errors if some are missing.

    `built` names distributions without a wheel: each installer builds them, so they cannot be compared.
    """

    folder: tempfile.TemporaryDirectory[str]
    complaint: str
    built: tuple[str, ...]

    @property
    def wheels(self) -> list[Path]:
        return sorted(Path(self.folder.name).glob("*.whl"))

    @property
    def out_of_reach(self) -> bool:
        """Whether it failed because the index is unreachable."""
        return bool(_REACH.search(self.complaint))


@functools.cache
def fetch(pins: tuple[Pin, ...], version: str, architecture: str) -> Fetched:
    """Download with pip the wheel of each pin that an installer would choose for this Python and machine.

    pip rejects wheels whose hash is not in the lock.
    """
    directory = tempfile.TemporaryDirectory(prefix="gesso-wheels-")
    folder = Path(directory.name)
    built: list[str] = []
    machine = _MACHINES[architecture]
    platforms = [f"{name}_{machine}" for minor in _GLIBC for name in (f"manylinux_2_{minor}", _OLD.get(minor)) if name]
    nodot = version.replace(".", "")
    requirements = folder / "requirements.txt"
    arguments = [
        *("download", "-q", "--no-deps", "--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"),
        *("--python-version", version, "--implementation", "cp"),
        *(argument for abi in (f"cp{nodot}", "abi3", "none") for argument in ("--abi", abi)),
        *(argument for platform in platforms for argument in ("--platform", platform)),
        *("-d", str(folder), "-r", str(requirements)),
    ]
    while True:
        requirements.write_text("\n".join(pin.text for pin in pins if pin.name not in built) + "\n")
        done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False)
        missing = re.search(r"No matching distribution found for ([\w.-]+)==", done.stderr)
        if missing is None or _REACH.search(done.stderr) or missing[1] in built:
            return Fetched(directory, "" if done.returncode == 0 else done.stderr, tuple(built))
        built.append(missing[1])
