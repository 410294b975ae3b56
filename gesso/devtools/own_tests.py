"""Run the project's own tests: lint, types, unit, integration and fault tests, coverage, check; partly in parallel."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING

from gesso import report
from gesso.devtools import parallel
from gesso.devtools.parallel import Part, PartResult
from gesso.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Stages = tuple[tuple[Part, ...], ...]


def stages(python: str, cores: int, folder: str) -> Stages:
    """Return the stages, one after the other; the parts of a stage run in parallel; coverage goes to `folder`. Pure.

    The unit tests run alone: they are bound by the CPU, and their time is limited. Integration tests (programs,
    servers) and fault tests mostly wait, so that two workers per core run them, and mypy in parallel.
    """
    # The environment may turn off bytecode; then every worker and every child would compile everything again.
    env = {"COLUMNS": "110", "PYTHONDONTWRITEBYTECODE": "", "GESSO_COVERAGE": folder}

    # Unused plugins cost each worker their import, and each test their hooks.
    unneeded = [f"-pno:{plugin}" for plugin in ("schemathesis", "testinfra", "anyio", "logging")]

    waiting = ("tests/integration", "tests/faults")

    def module(name: str, *arguments: str) -> Part:
        return Part(name, (python, "-m", *arguments), env)

    return (
        (module("ruff", "ruff", "check", "."), module("ruff format", "ruff", "format", "--check", ".")),
        (module("unit tests", "pytest", f"-n{max(1, cores)}", "--dist=worksteal", *unneeded),),
        (
            module("integration and fault tests", "pytest", *waiting, f"-n{2 * max(1, cores)}", "--dist=loadgroup"),
            module("mypy", "mypy"),
        ),
        (module("coverage", "gesso.devtools.coverage_gate", folder), module("check", "invoke", "check")),
    )


def table(done: Sequence[PartResult]) -> str:
    """Return a table of the parts with time and result. Pure."""
    width = max(len(each.name) for each in done)
    return "\n".join(f"{each.name:<{width}}  {each.seconds:7.1f} s  {'ok' if each.ok else 'FAILED'}" for each in done)


def run(on_line: Callable[[str], None] = report.result, chosen: Stages | None = None) -> None:
    """Run every part, also after a failure, and print the table.

    Raises CheckError that lists the failed parts.
    """
    done: list[PartResult] = []
    with tempfile.TemporaryDirectory(prefix="gesso-coverage-") as folder:
        for stage in chosen or stages(sys.executable, os.cpu_count() or 1, folder):
            done += parallel.run(stage, on_line)
    on_line("== own tests")
    on_line(table(done))
    if failed := [each.name for each in done if not each.ok]:
        raise CheckError(f"failed: {', '.join(failed)}", "the output above says why")
