"""Results of a run on an image: a summary for people, and a report stored by the image's id.

A check that could not run is counted separately, with its reason: it is not passed.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from gesso.builder.image import contract_report
from gesso.builder.image.build import prepare
from gesso.builder.image.contract_report import Case, ContractReport

from . import engine, options

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter


class Reporter:
    """Collects every outcome; under xdist it is the controller's, which receives all workers' outcomes."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._began = time.monotonic()
        self._outcomes: dict[str, tuple[str, str]] = {}
        self.kept: ContractReport | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record one phase of one test: the worst of its three counts."""
        file, _, test = report.nodeid.partition("::")  # a test's parameter may have a slash, too
        name = f"{file.rpartition('/')[2]}::{test}"
        was = self._outcomes.get(name, ("", ""))[0]
        if report.failed:
            text = str(report.longrepr).strip().splitlines()
            lines = [line[1:].strip() for line in text if line.startswith("E ")] or text[-1:]
            self._outcomes[name] = ("failed", " ".join(lines[:3])[:400])
        elif report.skipped and was != "failed":
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self._outcomes[name] = ("not run", reason.removeprefix("Skipped: "))
        elif report.when == "call" and not was:
            self._outcomes[name] = ("passed", "")

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Store the report, unless the run was interrupted or only collected tests."""
        option = self._config.option
        if exitstatus not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED} or option.collectonly:
            return
        selection = options.selection_of(self._config)
        try:
            where = engine.connect()
            image = where.client.images.get(options.image_of(self._config, selection))
        except Exception:  # noqa: BLE001 - the tests have reported the error of the engine, or of the name
            return
        part = bool(option.keyword or option.markexpr or option.gesso_part)
        self.kept = ContractReport(
            image=str(image.id), arch=selection.arch, trial=selection.trial, lock=prepare(selection)[1].lock.sha256,
            contract=contract_report.contract_of(options.ROOT / "tests" / "image"), whole=not part,
            passed=sum(outcome == "passed" for outcome, _ in self._outcomes.values()),
            failed=self._cases("failed"), not_run=self._cases("not run"),
            seconds=round(time.monotonic() - self._began, 1), at=contract_report.now(),
        )  # fmt: skip
        contract_report.write(os.environ, self.kept)

    def _cases(self, expected: str) -> tuple[Case, ...]:
        return tuple(Case(name=name, reason=reason) for name, (outcome, reason) in self._outcomes.items()
                     if outcome == expected)  # fmt: skip

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """Print the outcomes by module, and where the report is stored."""
        areas: dict[str, Counter[str]] = {}
        for name, (outcome, _) in self._outcomes.items():
            areas.setdefault(name.partition("::")[0], Counter())[outcome] += 1
        if not areas:
            return
        out = terminalreporter
        out.section("the image's contract")
        for area, counts in sorted(areas.items()):
            summary = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "not run")
                              if counts[outcome])  # fmt: skip
            out.write_line(f"  {'!' if counts['failed'] else ' '} {area.removesuffix('.py'):<24} {summary}")
        for case in self._cases("not run"):
            out.write_line(f"    not run: {case.name.partition('::')[2]}: {case.reason}")
        if self.kept is not None:
            state = "green" if self.kept.green else "not green" if self.kept.whole else "partial run"
            out.write_line(f"  image {self.kept.image[:19]}, {state}, report in "
                           f"{contract_report.folder(os.environ, self.kept.image)}")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Register the reporter, in the one process that receives all outcomes."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reporter(config), "gesso-reporter")
