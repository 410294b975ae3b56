from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gesso.image.build import prepare
from gesso.publish.published import Published
from gesso.publish.template.service import Templates
from gesso.publish.vast import Vast
from gesso.publish.vastkey import Key
from gesso.settings import Project, Selection

from .vastlike import KEY, VastLike

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gesso.image.locking import Locked
    from gesso.manifest.schema import Manifest


@pytest.fixture
def service() -> Iterator[VastLike]:
    with VastLike().running() as found:
        yield found


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def templates(service: VastLike, said: list[str]) -> Templates:
    return Templates(service.url, Key(KEY), said.append, service.clock)


@pytest.fixture(scope="session")
def image() -> Published:
    return Published("ghcr.io/someone/gesso", f"sha256:{'ab' * 32}", ("sdxl",), 3_500_000_000, 6_900_000_000)


@pytest.fixture(scope="session")
def sdxl() -> tuple[Manifest, Locked]:
    return prepare(Selection(Project(Path(__file__).resolve().parents[3]), "sdxl"))


@pytest.fixture
def vast(service: VastLike, said: list[str]) -> Vast:
    return Vast(service.url, Key(KEY), said.append, service.clock)
