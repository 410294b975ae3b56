"""Coverage of the project's own tests: shown whole, and demanded where deciding needs no machine: in the pure rooms.

pyproject.toml names those rooms (tool.gesso.pure) and how much of each module there must be covered, branches included.
"""

from __future__ import annotations

import fnmatch
import json
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso import proc, report
from gesso.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def below(modules: Mapping[str, float], rooms: Sequence[str], least: float) -> list[str]:
    """Say what is wrong: each module of these rooms that is under `least` percent, each room without a module. Pure."""
    lines = [
        f"{name}: {percent:.1f} % of a pure module is covered; at least {least:g} % must be"
        for name, percent in sorted(modules.items())
        if percent < least and any(fnmatch.fnmatchcase(name, room) for room in rooms)
    ]
    empty = [room for room in rooms if not fnmatch.filter(modules, room)]
    return lines + [f"{room}: no such module was measured; name what there is in pyproject.toml" for room in empty]


def percents(measured: Mapping[str, Any]) -> dict[str, float]:
    """Give the covered percentage of each file, out of `coverage json`. Pure."""
    return {name: float(file["summary"]["percent_covered"]) for name, file in measured["files"].items()}


def show(root: Path, measured: Path) -> None:
    """Put together what the parts measured into a folder, show it, and judge the pure rooms.

    Raises CheckError where one of them is under what is demanded, or nothing was measured.
    """
    coverage = [sys.executable, "-m", "coverage"]
    wanted = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["gesso"]
    for words in (["combine", "--quiet", str(measured)], ["report", "--skip-covered"]):
        done = proc.run([*coverage, *words], cwd=root)
        if not done.ok:
            raise CheckError(f"coverage {words[0]}: {done.tail()}", "see whether the tests ran at all")
        report.result(done.output.rstrip())
    with tempfile.TemporaryDirectory(prefix="gesso-coverage-") as folder:
        file = Path(folder) / "coverage.json"
        done = proc.run([*coverage, "json", "--quiet", "-o", file], cwd=root)
        if not done.ok:
            raise CheckError(f"coverage json: {done.tail()}")
        modules = percents(json.loads(file.read_bytes()))
    rooms, least = wanted["pure"], float(wanted["pure-percent"])
    if problems := below(modules, rooms, least):
        raise CheckError("\n".join(problems), "test what is not tested, or take the module out of the pure rooms")
    pure = [name for name in modules if any(fnmatch.fnmatchcase(name, room) for room in rooms)]
    report.result(f"pure rooms: {len(pure)} modules, each at least {min(modules[name] for name in pure):.1f} % covered")


if __name__ == "__main__":
    with report.exit_codes():
        show(Path.cwd(), Path(sys.argv[1]))
