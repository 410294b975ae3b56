"""The project's own tests: lint, types, unit, rim and fault tests, coverage, check; side by side where that helps."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING

from gesso import report
from gesso.devtools import parallel
from gesso.devtools.parallel import Done, Part
from gesso.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Stages = tuple[tuple[Part, ...], ...]


def stages(python: str, cores: int, folder: str) -> Stages:
    """Give what is run, stage after stage; the parts of one stage run side by side; coverage goes to `folder`. Pure.

    The unit tests have the machine to themselves: they are bound by its cores, and their time is promised. Those of the
    rim (programs, servers) and of faults wait more than they work, so that twice as many of them as there are cores
    run at once, and mypy beside them.
    """
    # A machine may be told to keep no bytecode; then every worker and every child would compile everything again.
    env = {"COLUMNS": "110", "PYTHONDONTWRITEBYTECODE": "", "GESSO_COVERAGE": folder}

    # What the unit tests do not use costs each worker its import, and each test its hooks.
    unneeded = [f"-pno:{plugin}" for plugin in ("schemathesis", "testinfra", "anyio", "logging")]

    apart = ("tests/integration", "tests/faults")

    def module(name: str, *words: str) -> Part:
        return Part(name, (python, "-m", *words), env)

    return (
        (module("ruff", "ruff", "check", "."), module("ruff format", "ruff", "format", "--check", ".")),
        (module("unit tests", "pytest", f"-n{max(1, cores)}", "--dist=worksteal", *unneeded),),
        (
            module("rim and fault tests", "pytest", *apart, f"-n{2 * max(1, cores)}", "--dist=loadgroup"),
            module("mypy", "mypy"),
        ),
        (module("coverage", "gesso.devtools.coverage_gate", folder), module("check", "invoke", "check")),
    )


def table(done: Sequence[Done]) -> str:
    """Show each part with its seconds and result, in columns. Pure."""
    width = max(len(each.name) for each in done)
    return "\n".join(f"{each.name:<{width}}  {each.seconds:7.1f} s  {'ok' if each.ok else 'FAILED'}" for each in done)


def run(tell: Callable[[str], None] = report.result, chosen: Stages | None = None) -> None:
    """Run every part, each even where one before it failed, and show the table.

    Raises CheckError that names those that failed.
    """
    done: list[Done] = []
    with tempfile.TemporaryDirectory(prefix="gesso-coverage-") as folder:
        for stage in chosen or stages(sys.executable, os.cpu_count() or 1, folder):
            done += parallel.run(stage, tell)
    tell("== own tests")
    tell(table(done))
    if failed := [each.name for each in done if not each.ok]:
        raise CheckError(f"failed: {', '.join(failed)}", "the output above says why")
