"""Which image is tested: the options that `invoke test` gives to pytest, and the selection that they mean."""

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
    group.addoption("--gesso-part", action="store_true", help="only what differs between architectures (dealing.py)")


def selection_of(config: pytest.Config) -> Selection:
    """Give what was selected."""
    overlays = tuple(Path(path) for path in config.getoption("--gesso-overlay"))
    return Selection(Project(ROOT), config.getoption("--gesso-arch"), overlays, config.getoption("--gesso-trial"))


def image_of(config: pytest.Config, selection: Selection) -> str:
    """Give the image's name: the one that was given, else the one that build gives."""
    return str(config.getoption("--gesso-image") or tags_of(selection.arch, trial=selection.trial)[0])
