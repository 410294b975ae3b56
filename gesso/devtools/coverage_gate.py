"""Report the coverage of the project's own tests, and require a minimum for the pure modules.

pyproject.toml lists those modules (tool.gesso.pure) and the minimum of each (tool.gesso.pure-percent), with branches.
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


def shortfalls(modules: Mapping[str, float], patterns: Sequence[str], minimum: float) -> list[str]:
    """Return the problems: matching modules under `minimum` percent, and patterns without a module. Pure."""
    lines = [
        f"{name}: {percent:.1f} % covered; a pure module needs at least {minimum:g} %"
        for name, percent in sorted(modules.items())
        if percent < minimum and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]
    empty = [pattern for pattern in patterns if not fnmatch.filter(modules, pattern)]
    return lines + [
        f"{pattern}: matches no measured module; correct tool.gesso.pure in pyproject.toml" for pattern in empty
    ]


def percents(measured: Mapping[str, Any]) -> dict[str, float]:
    """Return the covered percentage of each file in the output of `coverage json`. Pure."""
    return {name: float(file["summary"]["percent_covered"]) for name, file in measured["files"].items()}


def run(root: Path, data: Path) -> None:
    """Combine the coverage data in a folder, print the report, and check the pure modules.

    Raises CheckError where one is under the minimum, or nothing was measured.
    """
    coverage = [sys.executable, "-m", "coverage"]
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["gesso"]
    for arguments in (["combine", "--quiet", str(data)], ["report", "--skip-covered"]):
        done = proc.run([*coverage, *arguments], cwd=root)
        if not done.ok:
            raise CheckError(f"coverage {arguments[0]}: {done.tail()}", "check whether the tests ran at all")
        report.result(done.output.rstrip())
    with tempfile.TemporaryDirectory(prefix="gesso-coverage-") as folder:
        file = Path(folder) / "coverage.json"
        done = proc.run([*coverage, "json", "--quiet", "-o", file], cwd=root)
        if not done.ok:
            raise CheckError(f"coverage json: {done.tail()}")
        modules = percents(json.loads(file.read_bytes()))
    patterns, minimum = settings["pure"], float(settings["pure-percent"])
    if problems := shortfalls(modules, patterns, minimum):
        raise CheckError("\n".join(problems), "add tests, or remove the module from tool.gesso.pure")
    pure = [name for name in modules if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    report.result(f"pure modules: {len(pure)}, each at least {min(modules[name] for name in pure):.1f} % covered")


if __name__ == "__main__":
    with report.exit_codes():
        run(Path.cwd(), Path(sys.argv[1]))
