"""The agent restarts everything if the supervisor is gone, even if its output goes nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gesso import proc
from gesso.runtime import boot

if TYPE_CHECKING:
    import pytest

    from gesso.runtime.layout import Layout


def test_everything_is_restarted_without_the_old_supervisors_variables(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(proc, "detach", lambda argv, log, **more: started.append((argv, log, more)))

    def nobody_listens(_: str) -> None:
        raise BrokenPipeError

    boot.revive(layout, {"SUPERVISOR_ENABLED": "1", "GESSO_TOKEN": "secret"}, nobody_listens)
    ((argv, log, more),) = started
    assert argv == [str(layout.gesso / "venv/bin/gesso"), "boot"]
    assert log == layout.logs / "boot.log"
    assert more == {"env": {"GESSO_TOKEN": "secret"}, "replace_env": True}, "the agent's own environment has no secrets"


def test_not_while_a_supervisor_is_running(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "is_running", lambda _: True)
    monkeypatch.setattr(proc, "detach", lambda *_: 1 / 0)
    boot.revive(layout, {}, lambda _: None)
