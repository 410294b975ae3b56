"""Which image is tested: the options that `invoke test` passes to pytest, and the resulting selection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gesso.builder.image.plan import tags_of
from gesso.settings import Project, Selection

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[2]


def add(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("gesso")
    group.addoption("--gesso-arch", default="sdxl")
    group.addoption("--gesso-trial", action="store_true")
    group.addoption("--gesso-overlay", action="append", default=[])
    group.addoption("--gesso-image", default=None)
    group.addoption("--gesso-part", action="store_true", help="skip tests that are the same on every architecture")


def selection_of(config: pytest.Config) -> Selection:
    """Return the selection."""
    overlays = tuple(Path(path) for path in config.getoption("--gesso-overlay"))
    return Selection(Project(ROOT), config.getoption("--gesso-arch"), overlays, config.getoption("--gesso-trial"))


def image_of(config: pytest.Config, selection: Selection) -> str:
    """Return the image's name: the given one, else the build's."""
    return str(config.getoption("--gesso-image") or tags_of(selection.arch, trial=selection.trial)[0])
