"""Fixtures of these tests: the mirror that misbehaves on request (images/standin/mirror), and an instance's folders."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "images" / "standin"))

from mirror import Mirror

from tests.unit.runtime.conftest import layout, record  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    """Start a mirror without files: `mirror.files["/a.safetensors"] = b"..."` adds one."""
    with Mirror() as found:
        yield found
