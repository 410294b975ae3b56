"""Every bad image of the catalogue is caught by the test that claims it, and the good one passes that test."""

from __future__ import annotations

import inspect
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from tests.image import test_bytes
from tests.image.checks import secrets
from tests.image.checks.image_snapshot import read_image
from tests.image.options import ROOT

from .catalogue import CANARY, CATALOGUE, Sabotage
from .conftest import CAUGHT
from .spoil import spoil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import docker

    from gesso.settings import Selection
    from tests.image.checks.expected import Expected

OUTSIDE = "test_bytes.py::"
STATIC = {name: one for name, one in CATALOGUE.items() if one.caught_by.startswith(OUTSIDE)}
RUNNING = {name: one for name, one in CATALOGUE.items() if name not in STATIC}
SECRET = "Xq7-kept-by-the-build-machine-93"  # without a known form; in the environment while images are checked


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GESSO_CANARY_TOKEN", SECRET)


@pytest.fixture
def failing(
    client: docker.DockerClient, selection: Selection, expectation: Expected, seen: dict[str, Any]
) -> Callable[[str], dict[str, str]]:
    """Run every test of test_bytes.py on an image and return the failed ones, with their messages."""

    def run(name: str) -> dict[str, str]:
        image = client.images.get(name)
        snapshot = read_image(image.save(chunk_size=1 << 20), secrets.search(secrets.canaries()), seen)
        fixtures = {"snapshot": snapshot, "expectation": expectation, "client": client, "selection": selection,
                 "image": image}  # fmt: skip
        found = {}
        for test, function in vars(test_bytes).items():
            if test.startswith("test_"):
                try:
                    function(**{key: fixtures[key] for key in inspect.signature(function).parameters})
                except AssertionError as error:
                    found[test] = str(error)
        return found

    return run


@pytest.fixture
def made(client: docker.DockerClient, good: str, selection: Selection) -> Iterator[Callable[[str, Sabotage], str]]:
    tags: list[str] = []

    def make(name: str, one: Sabotage) -> str:
        tags.append(spoil(name, one, good, selection, {"canary": SECRET}))
        return tags[-1]

    yield make
    for tag in tags:
        client.images.remove(tag, force=True)


def test_the_good_image_passes_all_of_them(good: str, failing: Callable[[str], dict[str, str]]) -> None:
    assert failing(good) == {}


@pytest.mark.parametrize("name", STATIC)
def test_it_is_caught_from_outside(
    name: str,
    made: Callable[[str, Sabotage], str],
    failing: Callable[[str], dict[str, str]],
    record_property: Callable[[str, object], None],
) -> None:
    one = STATIC[name]
    caught = failing(made(name, one))
    claimed = one.caught_by.removeprefix(OUTSIDE)
    others = f" and {len(caught) - 1} more" if len(caught) > 1 else ""
    record_property(CAUGHT, f"{name}: {claimed + others if claimed in caught else ''}")
    assert claimed in caught, f"only by {sorted(caught)}"
    assert all(SECRET not in message and CANARY not in message for message in caught.values()), (
        "a secret is never shown"
    )


def _outcomes(image: str, selection: Selection, tests: list[str], junit: Path) -> dict[str, str]:
    arguments = ["-p", "no:cacheprovider", f"--gesso-arch={selection.arch}", "--gesso-trial", f"--gesso-image={image}",
             f"--junitxml={junit}"]  # fmt: skip
    subprocess.run([sys.executable, "-m", "pytest", *arguments, *(f"tests/image/{test}" for test in tests)],
                   cwd=ROOT, capture_output=True, check=False)  # fmt: skip
    found: dict[str, str] = {}
    for case in ET.parse(junit).iter("testcase"):
        name = str(case.get("name")).partition("[")[0]
        outcome = next((kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), "passed")
        found[name] = outcome if found.get(name, "passed") == "passed" else found[name]
    return found


def test_the_good_image_passes_the_runtime_tests(good: str, selection: Selection, tmp_path: Path) -> None:
    tests = sorted({one.caught_by for one in RUNNING.values()})
    found = _outcomes(good, selection, tests, tmp_path / "junit.xml")
    assert found == {test.partition("::")[2]: "passed" for test in tests}


@pytest.mark.parametrize("name", RUNNING)
def test_it_is_caught_when_it_runs(
    name: str,
    made: Callable[[str, Sabotage], str],
    selection: Selection,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    one = RUNNING[name]
    test = one.caught_by.partition("::")[2]
    outcome = _outcomes(made(name, one), selection, [one.caught_by], tmp_path / "junit.xml")
    record_property(CAUGHT, f"{name}: {test if outcome.get(test) == 'failure' else ''}")
    assert outcome[test] == "failure", outcome
