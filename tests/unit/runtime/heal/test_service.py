"""ComfyUI under the supervisor, as a heal starts it anew and waits for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.runtime import boot
from gesso.runtime.heal import service
from gesso.runtime.heal.service import Supervised
from gesso.runtime.services import comfyui as comfy
from gesso.runtime.services.supervisord import Program, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.runtime.layout import Layout, Record


@dataclass
class World:
    """A supervisor with ComfyUI, and what both answer."""

    state: str | None = "RUNNING"
    pid: int = 7
    answers: bool = True
    lacks: tuple[str, ...] = ()
    stubborn: bool = False
    stillborn: bool = False
    did: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=lambda: [{"state": "ready"}])

    def tell(self, event: str, **facts: Any) -> None:
        self.told.append(f"{event} {facts.get('what')}")


class FakeSupervisor(Supervisor):
    def __init__(self, world: World) -> None:
        object.__setattr__(self, "world", world)

    def programs(self) -> dict[str, Program]:
        world: World = self.world  # type: ignore[attr-defined]
        if world.state is None:
            raise CheckError("supervisord does not answer")
        return {"comfyui": Program("comfyui", world.state, world.pid, 1000)}

    def stop(self, name: str) -> None:
        world: World = self.world  # type: ignore[attr-defined]
        world.did.append(f"stop {name}")
        if not world.stubborn:
            world.state, world.pid = "STOPPED", 0

    def start(self, name: str) -> None:
        world: World = self.world  # type: ignore[attr-defined]
        world.did.append(f"start {name}")
        if not world.stillborn:
            world.state, world.pid = "STARTING", 8


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    def ask(*_: Any, **__: Any) -> Any:
        if not made.answers:
            raise CheckError("ComfyUI does not answer")
        return {}

    monkeypatch.setattr(comfy, "ask", ask)
    monkeypatch.setattr(comfy, "missing", lambda *_, **__: made.lacks)
    monkeypatch.setattr(boot, "runs", lambda _: made.state is not None)
    for name, value in {"_STEP": 0.001, "STOPPING": 0.05, "STARTING": 0.05, "SETTLING": 0.1, "FAILING": 0.03}.items():
        monkeypatch.setattr(service, name, value)
    return made


@pytest.fixture
def comfyui(world: World, layout: Layout, record: Callable[..., Record]) -> Supervised:
    def revive() -> None:
        world.did.append("revive")
        world.state, world.pid = "RUNNING", 9

    def status() -> dict[str, Any]:
        if not world.statuses:
            raise CheckError("the agent does not answer")
        return world.statuses[0] if len(world.statuses) == 1 else world.statuses.pop(0)

    return Supervised(layout, record(), FakeSupervisor(world), revive, status=status)


def test_up_is_more_than_an_open_port(world: World, comfyui: Supervised) -> None:
    assert comfyui.up()
    world.lacks = ("IPAdapter",)
    assert not comfyui.up()
    assert comfyui.answers()
    world.answers = False
    assert not comfyui.up()


def test_a_restart_pays_what_is_owed(world: World, comfyui: Supervised, layout: Layout) -> None:
    assert not comfyui.due()
    comfyui.owe()
    assert comfyui.due()
    comfyui.restart(world.tell)
    assert world.did == ["stop comfyui", "start comfyui"]
    assert not comfyui.due()
    assert not layout.owed.exists()


def test_one_that_stands_still_is_only_started(world: World, comfyui: Supervised) -> None:
    world.state, world.pid = "STOPPED", 0
    comfyui.restart(world.tell)
    assert world.did == ["start comfyui"]


def test_without_a_supervisor_everything_is_started(world: World, comfyui: Supervised) -> None:
    world.state = None
    comfyui.restart(world.tell)
    assert world.did == ["revive"]


def test_one_that_serves_is_not_held(world: World, comfyui: Supervised) -> None:
    comfyui.hold()
    assert world.did == []


@pytest.mark.parametrize(("state", "pid"), [("STARTING", 7), ("BACKOFF", 0)])
def test_one_that_does_not_answer_is_held(world: World, comfyui: Supervised, state: str, pid: int) -> None:
    world.answers, world.state, world.pid = False, state, pid
    comfyui.hold()
    assert world.did == ["stop comfyui"]
    comfyui.hold()
    assert world.did == ["stop comfyui"]


@pytest.mark.parametrize(("how", "why"), [("stubborn", "does not stop"), ("stillborn", "does not start")])
def test_what_does_not_come_about_is_an_error_and_stays_owed(
    world: World, comfyui: Supervised, how: str, why: str
) -> None:
    comfyui.owe()
    setattr(world, how, True)
    with pytest.raises(CheckError, match=why):
        comfyui.restart(world.tell)
    assert comfyui.due()


def test_it_waits_until_krita_can_work_and_says_for_what(world: World, comfyui: Supervised) -> None:
    world.statuses = [
        {},
        {"state": "starting", "why": "slow"},
        {"state": "failed", "why": "not yet"},
        {"state": "ready"},
    ]
    comfyui.settle(world.tell, whole=True)
    assert world.told == ["waiting ComfyUI is starting", "waiting slow", "waiting not yet"]


def test_the_agents_word_alone_is_not_enough(world: World, comfyui: Supervised) -> None:
    """Right after a restart it may not have noticed."""
    world.lacks = ("IPAdapter",)
    with pytest.raises(CheckError, match="ComfyUI is starting"):
        comfyui.settle(world.tell, whole=True)


@pytest.mark.parametrize("state", ["failed", "starting"])
def test_it_does_not_wait_for_ever(world: World, comfyui: Supervised, state: str) -> None:
    world.statuses = [{"state": state, "why": "the disk is full", "next": "make room"}]
    with pytest.raises(CheckError, match="the disk is full") as caught:
        comfyui.settle(world.tell, whole=True)
    assert caught.value.next_step == "make room"


def test_where_not_all_is_whole_comfyui_alone_counts(world: World, comfyui: Supervised) -> None:
    world.statuses = [{"state": "failed", "why": "no network"}]
    comfyui.settle(world.tell, whole=False)


def test_an_agent_that_is_gone_is_waited_for_and_told(world: World, comfyui: Supervised) -> None:
    world.statuses = []
    with pytest.raises(CheckError, match="the agent does not answer"):
        comfyui.settle(world.tell, whole=True)
