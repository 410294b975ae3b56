"""The sources of the real run, from the environment; without them these tests are skipped, with a reason."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from gesso import report

from . import comfyui, weights

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADERS = sorted(set(weights.FILES.values()))


class Sources(NamedTuple):
    comfyui: Path
    python: Path
    headers: Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker("real")


def folder(variable: str, inside: str) -> Path:
    """Return a folder named by the environment and check its content; otherwise skip the test."""
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"SKIPPED, not passed: {variable} is not set (docs/maintainer.md, Workflows)")
    path = Path(value)
    if not (path / inside).exists():
        pytest.skip(f"SKIPPED, not passed: {variable}={value}: no {inside} in it (docs/maintainer.md, Workflows)")
    return path.resolve()


@pytest.fixture(scope="session")
def sources() -> Sources:
    checkout = folder("GESSO_COMFYUI", "main.py")
    headers = folder("GESSO_HEADERS", f"{HEADERS[0]}.json.gz")
    places = [checkout / ".venv", checkout / "venv", checkout.parent / ".venv", checkout.parent / "venv"]
    found = next((place / "bin/python" for place in places if (place / "bin/python").exists()), Path(sys.executable))
    return Sources(checkout, Path(os.environ.get("GESSO_COMFYUI_PYTHON", found)), headers)


@pytest.fixture(scope="session")
def url(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real ComfyUI with every model of the gold graphs, without weights."""
    place = tmp_path_factory.mktemp("real")
    weights.make(place / "models", sources.headers, sources.python)
    with comfyui.running(sources.comfyui, sources.python, place) as address:
        report.progress(f"ComfyUI runs at {address}, log in {place}/comfyui.log")
        yield address
