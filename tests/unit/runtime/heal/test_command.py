"""`gesso heal`: each part gets the environment that it needs, and pip no secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gesso.runtime.heal import command
from gesso.runtime.services.supervisord import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from gesso.runtime.layout import Layout, Record

ENV = {"PATH": "/bin", "HF_TOKEN": "hf_0123456789", "PIP_INDEX_URL": "https://me:pw@index.invalid/simple"}


def test_only_the_models_and_the_gate_know_every_variable(
    layout: Layout, record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    for name, at in (("Python", 2), ("Processes", 2), ("Models", 2)):
        monkeypatch.setattr(command, name, lambda *args, name=name, at=at: seen.update({name: args[at]}))
    command.parts(layout, record(raw={"models": []}), ENV, Supervisor(layout.run / "none"), "20260101-000000-000000")
    assert seen["Processes"] == seen["Models"] == ENV
    assert seen["Python"] == {name: ENV[name] for name in ("PATH", "PIP_INDEX_URL")}
