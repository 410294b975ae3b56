from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gesso.builder.vast.api_key import Key
from gesso.builder.vast.instances import Vast
from gesso.builder.vast.template.service import Templates
from tests.integration.builder.fake_registry import RegistryLike, full
from tests.integration.builder.fake_vast import KEY, VastLike
from tests.unit.builder.conftest import (  # noqa: F401 - fixtures
    git,
    git_config,
    image,
    program,
    project,
    repository,
    sdxl,
    template,
)

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
