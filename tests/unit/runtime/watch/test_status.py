"""The status: facts from all watches, a state that is kept for a moment, checked anew where asked, and problems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gesso.runtime.gate import caddy
from gesso.runtime.services.supervisord import Program, Supervisor
from gesso.runtime.state.state import Facts, ModelFact, Trouble
from gesso.runtime.watch import status as statuses
from gesso.runtime.watch.comfyui import ComfyuiWatch
from gesso.runtime.watch.drift import Drift
from gesso.runtime.watch.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.runtime.layout import Layout, Record
    from gesso.runtime.watch.model_sync import ModelSync

TROUBLE = Trouble("port 8188 is held by `nginx` (process 7)", "end it")


class FakeModelSync:
    def __init__(self) -> None:
        self.models = (ModelFact("vae/a.safetensors", "required", "verified", 5, 5),)
        self.fetch_trouble: Trouble | None = None
        self.errors: list[tuple[float, str]] = []

    def facts(self) -> Any:
        return True, self.models, self.fetch_trouble


class World:
    """A status with all that it looks at; `calls` has the checks that it asked for."""

    def __init__(self, layout: Layout, record: Record) -> None:
        self.now = 1000.0
        self.calls: list[str] = []
        self.sync = FakeModelSync()
        self.watch = ComfyuiWatch(layout, record, Supervisor(layout.run / "none"), clock=lambda: self.now)
        self.drift = Drift(layout, record, lambda: True)
        sync: ModelSync = self.sync  # type: ignore[assignment]
        self.status = Status(layout, record, {}, sync, self.watch, self.drift)

    def ready(self) -> None:
        seen = self.watch.seen
        seen.up, seen.missing, seen.published, self.watch.gate.up = True, (), True, True
        seen.program = Program("comfyui", "RUNNING", 7, 1)


@pytest.fixture
def world(layout: Layout, record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch) -> World:
    caddy.configure(layout, {})
    world = World(layout, record())
    monkeypatch.setattr(world.drift, "check", lambda: world.calls.append("drift"))
    monkeypatch.setattr(world.watch, "refresh", lambda: world.calls.append("watch"))
    return world


def test_all_facts_come_together(world: World) -> None:
    world.ready()
    seen = world.watch.seen
    seen.port_trouble, seen.publish_trouble, seen.idle_starts = TROUBLE, Trouble("500"), 2
    world.watch.gate.trouble, world.sync.fetch_trouble = Trouble("gate"), Trouble("no network")
    world.drift.seen = ("torch is 1",)
    assert world.status.facts() == Facts(
        models_known=True, models=world.sync.models, fetch_trouble=Trouble("no network"), process="RUNNING",
        idle_starts=2, up=True, missing=(), published=True, publish_trouble=Trouble("500"), drift=("torch is 1",),
        gate_up=True, gate_trouble=Trouble("gate"), port_trouble=TROUBLE,
    )  # fmt: skip


def test_a_status_is_kept_for_a_moment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.status()["state"] == "starting"
    world.ready()
    assert world.status()["state"] == "starting"
    monkeypatch.setattr(statuses, "CACHE_SECONDS", 0.0)
    assert world.status()["state"] == "ready"
    assert world.calls == []


def test_a_fresh_one_is_checked_anew_and_kept(world: World) -> None:
    assert world.status()["state"] == "starting"
    world.ready()
    assert world.status.fresh()["state"] == "ready"
    assert sorted(world.calls) == ["drift", "watch"]
    assert world.status()["state"] == "ready"


def test_a_fresh_one_is_not_built_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    builds: list[int] = []
    real = world.status._build

    def build() -> dict[str, Any]:
        builds.append(1)
        return real()

    monkeypatch.setattr(world.status, "_build", build)
    assert world.status.fresh() is world.status()
    assert len(builds) == 1


def test_the_checks_of_a_fresh_one_come_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.watch, "refresh", world.ready)
    monkeypatch.setattr(world.drift, "check", lambda: setattr(world.drift, "seen", ("torch is 1",)))
    assert world.status.fresh()["why"] == "Krita can work, but the instance was changed: torch is 1"


def test_a_fresh_one_does_not_keep_others_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's status comes from another thread while ComfyUI is asked."""
    monkeypatch.setattr(world.watch, "refresh", lambda: world.calls.append(world.status()["state"]))
    world.status.fresh()
    assert world.calls == ["drift", "starting"]


@pytest.mark.parametrize(
    ("state", "problems"),
    [
        ("ready", []), ("degraded", []), ("starting", ["starting: x"]), ("failed", ["failed: x"]),
        ("booting", ["booting: x"]), ("fetching", ["fetching: x"]),
    ],
)  # fmt: skip
def test_problems_are_what_keeps_krita_from_working(world: World, state: str, problems: list[str]) -> None:
    assert world.status.problems({"state": state, "why": "x"}) == problems


def test_what_would_prevent_the_next_start_is_a_problem(world: World) -> None:
    world.drift.seen, world.drift.broken = ("torch is 1", "sqlalchemy is 1.4.54"), ("sqlalchemy is 1.4.54",)
    assert world.status.problems({"state": "degraded", "why": "x"}) == ["sqlalchemy is 1.4.54"]


def test_an_agent_that_checks_nothing_is_not_alive(world: World) -> None:
    world.now += statuses.MAX_AGE
    assert world.status.alive()
    assert world.status.problems({"state": "ready"}) == []
    world.now += 1
    assert not world.status.alive()
    assert world.status.problems({"state": "ready"}) == ["the agent has not checked anything for 121 s"]
    assert world.status.problems({"state": "failed", "why": "x"})[0] == "failed: x"


def test_time_until_it_was_ready_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statuses, "CACHE_SECONDS", 0.0)
    assert world.status()["ready_after"] is None
    world.ready()
    found = world.status()
    assert found["ready_after"] >= 0
    world.watch.seen.port_trouble = TROUBLE
    failed = world.status()
    assert (failed["state"], failed["why"], failed["next"]) == ("failed", TROUBLE.why, TROUBLE.next_step)
    assert failed["ready_after"] == found["ready_after"]
