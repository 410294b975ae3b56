from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gesso.builder.vast.api_key import Key
from gesso.builder.vast.instances import InstanceClient
from gesso.builder.vast.template.service import TemplateClient
from tests.integration.builder.fake_registry import FakeRegistry, full
from tests.integration.builder.fake_vast import KEY, FakeVast
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
def service() -> Iterator[FakeVast]:
    with FakeVast().running() as found:
        yield found


@pytest.fixture
def progress() -> list[str]:
    return []


@pytest.fixture
def templates(service: FakeVast, progress: list[str]) -> TemplateClient:
    return TemplateClient(service.url, Key(KEY), progress.append, service.clock)


@pytest.fixture
def vast(service: FakeVast, progress: list[str]) -> InstanceClient:
    return InstanceClient(service.url, Key(KEY), progress.append, service.clock)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with full().running() as found:
        yield found
