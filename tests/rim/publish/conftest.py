from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gesso.publish.template.service import Templates
from gesso.publish.vast import Vast
from gesso.publish.vastkey import Key
from tests.unit.publish.conftest import image, sdxl  # noqa: F401 - fixtures

from .registrylike import RegistryLike, full
from .vastlike import KEY, VastLike

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@pytest.fixture
def vast(service: VastLike, said: list[str]) -> Vast:
    return Vast(service.url, Key(KEY), said.append, service.clock)


@pytest.fixture
def registry() -> Iterator[RegistryLike]:
    with full().running() as found:
        yield found
