"""`invoke test --arch A --trial --sabotage`: which image is sabotaged, and the table at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.image import engine, options
from tests.image.checks.expected import Expected, expect

if TYPE_CHECKING:
    import docker
    from _pytest.terminal import TerminalReporter

    from gesso.settings import Selection

CAUGHT = "caught by"


pytest_addoption = options.add


@pytest.fixture(scope="session")
def selection(pytestconfig: pytest.Config) -> Selection:
    if not pytestconfig.getoption("--gesso-trial"):
        pytest.skip("bad images are made from the trial's: run with --trial; this was not run")
    return options.selection_of(pytestconfig)


@pytest.fixture(scope="session")
def client() -> docker.DockerClient:
    return engine.connect().client


@pytest.fixture(scope="session")
def good(client: docker.DockerClient, selection: Selection, pytestconfig: pytest.Config) -> str:
    """The good image's name."""
    name = options.image_of(pytestconfig, selection)
    engine.image(client, name, selection.flags)
    return name


@pytest.fixture(scope="session")
def expectation(selection: Selection) -> Expected:
    return expect(selection)


@pytest.fixture(scope="session")
def seen() -> dict[str, Any]:
    """Layers that were read already: a bad image shares all but a few with the good one."""
    return {}


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    rows: dict[str, tuple[str, str]] = {}
    for outcome, mark in (("passed", ""), ("failed", "NOT ")):
        for report in terminalreporter.stats.get(outcome, []):
            for key, value in getattr(report, "user_properties", []):
                if key == CAUGHT:
                    name, _, tests = str(value).partition(": ")
                    rows[name] = (mark, tests)
    if not rows:
        return
    terminalreporter.section("sabotage")
    for name, (mark, tests) in sorted(rows.items()):
        terminalreporter.write_line(f"  {name:<24} {mark}caught by {tests or 'NOTHING'}")
    caught = sum(not mark for mark, _ in rows.values())
    terminalreporter.write_line(f"  {caught} of {len(rows)} caught by the test that claims it")
