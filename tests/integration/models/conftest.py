from __future__ import annotations

from tests.unit.models.conftest import reader  # noqa: F401 - fixtures
