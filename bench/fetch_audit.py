"""Benchmark gesso's audit: thirty receipts, and a full audit against sha256sum and openssl on the same files."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

from bench import fetch_server
from bench.fetch_measure import Cost, measure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RECEIPTS, FILES = 30, 8
_AUDIT = """
import json, sys, time
from pathlib import Path
from gesso.manifest.schema import Model
from gesso.models.folder import Folder
from gesso.models.verify import audit
root, level = sys.argv[1:3]
files = json.loads(Path(root, "files.json").read_text())
models = [Model(name=f"checkpoints/{name}", sources=("https://example.org/x",), sha256=sha256, size=size,
                kind="checkpoint", family="sdxl", tier="required", license="MIT") for name, size, sha256 in files]
started = time.monotonic()
verdicts = audit(models, Folder.at(Path(root)), level)
print("alone", time.monotonic() - started)
wrong = [verdict for verdict in verdicts if not verdict.ok or verdict.by != ("receipt" if level == "fast" else "hash")]
sys.exit(f"{wrong[0]}" if wrong else 0)
"""


def receipts(folder: Path, env: Mapping[str, str], rounds: int) -> list[float]:
    """Return the seconds that 30 receipts take, each time in a new process (without its start)."""
    _make(folder, RECEIPTS, 1 << 20)
    command = [sys.executable, "-c", _AUDIT, str(folder)]
    _succeeded(measure([*command, "full"], env, folder), "the receipts' files")  # writes the receipts
    return [
        seconds_without_start(_succeeded(measure([*command, "fast"], env, folder), "receipts")) for _ in range(rounds)
    ]


def full(folder: Path, env: Mapping[str, str], rounds: int, size: int) -> dict[str, list[Cost]]:
    """Audit 8 files of `size` bytes, all in memory, to compare the computation, not the disk."""
    _make(folder, FILES, size)
    cores = len(os.sched_getaffinity(0))
    names = f'cd "$1" && ls *.safetensors | xargs -P{cores} -n1'
    commands = {
        "gesso": [sys.executable, "-c", _AUDIT, str(folder), "full"],
        "sha256sum": ["sh", "-c", f"{names} sha256sum", "sh", str(folder / "checkpoints")],
        "openssl dgst": ["sh", "-c", f"{names} openssl dgst -sha256", "sh", str(folder / "checkpoints")],
    }
    costs: dict[str, list[Cost]] = {name: [] for name in commands if _available(name)}
    for path in sorted((folder / "checkpoints").iterdir()):
        fetch_server.warm(path)
    for turn in range(rounds):
        for name in list(costs)[turn % len(costs) :] + list(costs)[: turn % len(costs)]:
            costs[name].append(_succeeded(measure(commands[name], env, folder), name))
            print(f"audit, round {turn + 1}: {name} {costs[name][-1].seconds:.2f} s", file=sys.stderr)
    return costs


def seconds_without_start(cost: Cost) -> float:
    """Return the seconds that one of our scripts printed for its work, without the start of Python."""
    return float(next(line for line in cost.output.splitlines() if line.startswith("alone ")).split()[1])


def _available(name: str) -> bool:
    return name == "gesso" or shutil.which(name.split(maxsplit=1)[0]) is not None


def _make(folder: Path, count: int, size: int) -> None:
    made = [fetch_server.make(folder / "checkpoints", f"{index}.safetensors", size) for index in range(count)]
    (folder / "files.json").write_text(json.dumps([(file.name, file.size, file.sha256) for file in made]))
    os.sync()


def _succeeded(cost: Cost, what: str) -> Cost:
    if cost.code:
        raise RuntimeError(f"{what}: exit code {cost.code}: {cost.output[-500:]}")
    return cost
