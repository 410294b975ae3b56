from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gesso.image.build import prepare
from gesso.publish.published import Published
from gesso.settings import Project, Selection

if TYPE_CHECKING:
    from gesso.image.locking import Locked
    from gesso.manifest.schema import Manifest


@pytest.fixture(scope="session")
def image() -> Published:
    return Published("ghcr.io/someone/gesso", f"sha256:{'ab' * 32}", ("sdxl",), 3_500_000_000, 6_900_000_000)


@pytest.fixture(scope="session")
def sdxl() -> tuple[Manifest, Locked]:
    return prepare(Selection(Project(Path(__file__).resolve().parents[3]), "sdxl"))
