"""ComfyUI under the supervisor: a heal restarts it and waits for it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.runtime import boot
from gesso.runtime.heal import service
from gesso.runtime.heal.service import SupervisedService
from gesso.runtime.services import comfyui as comfyui_api
from gesso.runtime.services.supervisord import Program, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.runtime.layout import Layout, Record


@dataclass
class FakeInstance:
    """A supervisor with ComfyUI, and their responses."""

    state: str | None = "RUNNING"
    pid: int = 7
    responds: bool = True
    missing: tuple[str, ...] = ()
    never_stops: bool = False
    never_starts: bool = False
    calls: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=lambda: [{"state": "ready"}])

    def on_event(self, event: str, **facts: Any) -> None:
        self.events.append(f"{event} {facts.get('what')}")


class FakeSupervisor(Supervisor):
    def __init__(self, instance: FakeInstance) -> None:
        object.__setattr__(self, "instance", instance)

    def programs(self) -> dict[str, Program]:
        instance: FakeInstance = self.instance  # type: ignore[attr-defined]
        if instance.state is None:
            raise CheckError("supervisord does not answer")
        return {"comfyui": Program("comfyui", instance.state, instance.pid, 1000)}

    def stop(self, name: str) -> None:
        instance: FakeInstance = self.instance  # type: ignore[attr-defined]
        instance.calls.append(f"stop {name}")
        if not instance.never_stops:
            instance.state, instance.pid = "STOPPED", 0

    def start(self, name: str) -> None:
        instance: FakeInstance = self.instance  # type: ignore[attr-defined]
        instance.calls.append(f"start {name}")
        if not instance.never_starts:
            instance.state, instance.pid = "STARTING", 8


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> FakeInstance:
    instance = FakeInstance()

    def ask(*_: Any, **__: Any) -> Any:
        if not instance.responds:
            raise CheckError("ComfyUI does not answer")
        return {}

    monkeypatch.setattr(comfyui_api, "get_json", ask)
    monkeypatch.setattr(comfyui_api, "missing_classes", lambda *_, **__: instance.missing)
    monkeypatch.setattr(boot, "is_running", lambda _: instance.state is not None)
    for name, value in {
        "_POLL_INTERVAL": 0.001,
        "STOP_TIMEOUT": 0.05,
        "START_TIMEOUT": 0.05,
        "READY_TIMEOUT": 0.1,
        "FAILED_TIMEOUT": 0.03,
        "CONFIRM_TIMEOUT": 0.2,
    }.items():
        monkeypatch.setattr(service, name, value)
    return instance


@pytest.fixture
def comfyui(instance: FakeInstance, layout: Layout, record: Callable[..., Record]) -> SupervisedService:
    def revive() -> None:
        instance.calls.append("revive")
        instance.state, instance.pid = "RUNNING", 9

    def status() -> dict[str, Any]:
        if not instance.statuses:
            raise CheckError("the agent does not answer")
        return instance.statuses[0] if len(instance.statuses) == 1 else instance.statuses.pop(0)

    def fresh() -> dict[str, Any]:
        instance.calls.append("fresh")
        return status()

    return SupervisedService(
        layout, record(), FakeSupervisor(instance), revive, status=lambda _: status(), fresh=lambda _: fresh()
    )


def test_up_is_more_than_an_open_port(instance: FakeInstance, comfyui: SupervisedService) -> None:
    assert comfyui.is_up()
    instance.missing = ("IPAdapter",)
    assert not comfyui.is_up()
    assert comfyui.responds()
    instance.responds = False
    assert not comfyui.is_up()


def test_a_restart_clears_the_pending_restart(
    instance: FakeInstance, comfyui: SupervisedService, layout: Layout
) -> None:
    assert not comfyui.restart_pending()
    comfyui.mark_restart_pending()
    assert comfyui.restart_pending()
    comfyui.restart(instance.on_event)
    assert instance.calls == ["stop comfyui", "start comfyui"]
    assert not comfyui.restart_pending()
    assert not layout.pending_restart.exists()


def test_a_stopped_comfyui_is_only_started(instance: FakeInstance, comfyui: SupervisedService) -> None:
    instance.state, instance.pid = "STOPPED", 0
    comfyui.restart(instance.on_event)
    assert instance.calls == ["start comfyui"]


def test_without_a_supervisor_everything_is_started(instance: FakeInstance, comfyui: SupervisedService) -> None:
    instance.state = None
    comfyui.restart(instance.on_event)
    assert instance.calls == ["revive"]


def test_comfyui_that_serves_is_not_stopped(instance: FakeInstance, comfyui: SupervisedService) -> None:
    comfyui.prevent_start()
    assert instance.calls == []


@pytest.mark.parametrize(("state", "pid"), [("STARTING", 7), ("BACKOFF", 0)])
def test_comfyui_that_does_not_respond_is_stopped(
    instance: FakeInstance, comfyui: SupervisedService, state: str, pid: int
) -> None:
    instance.responds, instance.state, instance.pid = False, state, pid
    comfyui.prevent_start()
    assert instance.calls == ["stop comfyui"]
    comfyui.prevent_start()
    assert instance.calls == ["stop comfyui"]


@pytest.mark.parametrize(("how", "why"), [("never_stops", "does not stop"), ("never_starts", "does not start")])
def test_a_failed_restart_is_an_error_and_stays_pending(
    instance: FakeInstance, comfyui: SupervisedService, how: str, why: str
) -> None:
    comfyui.mark_restart_pending()
    setattr(instance, how, True)
    with pytest.raises(CheckError, match=why):
        comfyui.restart(instance.on_event)
    assert comfyui.restart_pending()


def test_it_waits_until_ready_and_reports_the_reason(instance: FakeInstance, comfyui: SupervisedService) -> None:
    instance.statuses = [
        {},
        {"state": "starting", "why": "slow"},
        {"state": "failed", "why": "not yet"},
        {"state": "ready"},
    ]
    comfyui.wait_ready(instance.on_event, all_repaired=True)
    assert instance.events == ["waiting ComfyUI is starting", "waiting slow", "waiting not yet"]


def test_the_agents_status_alone_is_not_enough(instance: FakeInstance, comfyui: SupervisedService) -> None:
    """Right after a restart it may be outdated."""
    instance.missing = ("IPAdapter",)
    with pytest.raises(CheckError, match="ComfyUI is starting"):
        comfyui.wait_ready(instance.on_event, all_repaired=True)


@pytest.mark.parametrize("state", ["failed", "starting"])
def test_it_does_not_wait_for_ever(instance: FakeInstance, comfyui: SupervisedService, state: str) -> None:
    instance.statuses = [{"state": state, "why": "the disk is full", "next": "make room"}]
    with pytest.raises(CheckError, match="the disk is full") as caught:
        comfyui.wait_ready(instance.on_event, all_repaired=True)
    assert caught.value.next_step == "make room"


def test_where_not_all_is_repaired_only_comfyui_counts(instance: FakeInstance, comfyui: SupervisedService) -> None:
    instance.statuses = [{"state": "failed", "why": "no network"}]
    comfyui.wait_ready(instance.on_event, all_repaired=False)


def test_a_start_that_the_guard_refuses_is_not_waited_for(
    instance: FakeInstance, comfyui: SupervisedService, layout: Layout
) -> None:
    """As long as for another failure, not as long as for a slow start: it will be refused again."""
    layout.run.mkdir()
    file = comfyui_api.fault_file(layout)
    file.write_text('{"why": "SQLAlchemy is altered", "next": "start a fresh instance"}')
    instance.responds = False
    with pytest.raises(CheckError, match="SQLAlchemy is altered") as caught:
        comfyui.wait_ready(instance.on_event, all_repaired=False)
    assert caught.value.next_step == "start a fresh instance"
    file.write_text("damaged")
    instance.responds = True
    comfyui.wait_ready(instance.on_event, all_repaired=False)


def test_a_missing_agent_is_waited_for_and_reported(instance: FakeInstance, comfyui: SupervisedService) -> None:
    instance.statuses = []
    with pytest.raises(CheckError, match="the agent does not answer"):
        comfyui.wait_ready(instance.on_event, all_repaired=True)


# --- the state of the whole instance

WORSE = [
    ({"state": "failed", "why": "no network", "next": "look"}, "failed: no network", "look"),
    ({"state": "degraded", "why": "vae is missing"}, "degraded: vae is missing", "see `gesso logs comfyui`"),
    (None, "the agent does not answer", ""),
]


@pytest.mark.parametrize("state", ["ready", "starting", "fetching", "booting"])
@pytest.mark.parametrize("repaired", [True, False])
def test_a_state_that_is_well_or_changing_is_confirmed(
    instance: FakeInstance, comfyui: SupervisedService, state: str, repaired: bool
) -> None:
    instance.statuses = [{"state": state, "why": "."}]
    comfyui.confirm(repaired=repaired)
    assert instance.calls == ["fresh"]


@pytest.mark.parametrize(("status", "message", "step"), WORSE)
def test_where_nothing_was_repaired_the_state_counts_at_once(
    instance: FakeInstance, comfyui: SupervisedService, status: dict[str, Any] | None, message: str, step: str
) -> None:
    instance.statuses = [] if status is None else [status]
    with pytest.raises(CheckError) as caught:
        comfyui.confirm(repaired=False)
    assert (caught.value.message, caught.value.next_step) == (message, step)
    assert instance.calls == ["fresh"]


@pytest.mark.parametrize(("status", "message", "step"), WORSE)
def test_after_a_repair_the_state_has_a_while_to_follow(
    instance: FakeInstance, comfyui: SupervisedService, status: dict[str, Any] | None, message: str, step: str
) -> None:
    instance.statuses = [] if status is None else [status]
    started = time.monotonic()
    with pytest.raises(CheckError) as caught:
        comfyui.confirm(repaired=True)
    assert (caught.value.message, caught.value.next_step) == (message, step)
    assert 0.2 <= time.monotonic() - started < 5
    assert len(instance.calls) > 2


def test_a_state_that_follows_is_confirmed(instance: FakeInstance, comfyui: SupervisedService) -> None:
    failed = {"state": "failed", "why": "not yet"}
    instance.statuses = [failed, failed, {"state": "degraded", "why": "not yet"}, {"state": "ready"}]
    comfyui.confirm(repaired=True)
    assert instance.calls == ["fresh"] * 4
