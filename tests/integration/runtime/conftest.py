from __future__ import annotations

from tests.unit.runtime.conftest import fake_heal, layout, record, serving  # noqa: F401 - fixtures
