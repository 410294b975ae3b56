"""The agent starts everything anew where the supervisor is gone, though nobody hears it say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gesso import proc
from gesso.runtime import boot

if TYPE_CHECKING:
    import pytest

    from gesso.runtime.layout import Layout


def test_everything_is_started_anew_without_the_old_supervisors_marks(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(proc, "detach", lambda words, log: started.append((words, log)))

    def nobody_listens(_: str) -> None:
        raise BrokenPipeError

    boot.revive(layout, {"SUPERVISOR_ENABLED": "1", "GESSO_TOKEN": "secret"}, nobody_listens)
    ((words, log),) = started
    assert words == ["env", "-u", "SUPERVISOR_ENABLED", str(layout.gesso / "venv/bin/gesso"), "boot"]
    assert log == layout.logs / "boot.log"


def test_not_where_one_lives(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "runs", lambda _: True)
    monkeypatch.setattr(proc, "detach", lambda *_: 1 / 0)
    boot.revive(layout, {}, lambda _: None)
