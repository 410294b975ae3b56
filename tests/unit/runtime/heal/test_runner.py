"""One heal, with fake parts and a fake service: the order of events, and the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError, FetchError
from gesso.runtime.heal.damage import Damage, Outcome
from gesso.runtime.heal.runner import HealRun, heal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gesso.runtime.heal.runner import OnBytes, OnEvent

PACK = Damage("pack", "tooling", "is missing", "restore it", restart=True)
GRAPH = Damage("workflow", "gold.json", "differs", "restore it")
MODEL = Damage("model", "vae", "stub", "fetch it", offline=False, size=10)
LOST = Damage("pack", "old", "differs", "", repairable=False, next_step="start a fresh instance")


@dataclass
class FakePart:
    what: str
    damages: list[Damage] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    repair_error: Exception | None = None
    examine_error: Exception | None = None

    def examine(self, on_bytes: OnBytes) -> Sequence[Damage]:
        if self.examine_error:
            raise self.examine_error
        on_bytes(1, 2)
        return list(self.damages)

    def repair(self, damages: Sequence[Damage], _: OnEvent) -> Sequence[Outcome]:
        if self.repair_error:
            raise self.repair_error
        self.repaired += [damage.name for damage in damages]
        self.damages = [damage for damage in self.damages if damage not in damages]
        return [Outcome(damage, "repaired", received=damage.size or 0) for damage in damages]


@dataclass
class FakeService:
    serves: bool = True
    pending: bool = False
    calls: list[str] = field(default_factory=list)
    restart_error: Exception | None = None
    wait_error: Exception | None = None
    state_error: Exception | None = None

    def is_up(self) -> bool:
        return self.serves

    def restart_pending(self) -> bool:
        return self.pending

    def mark_restart_pending(self) -> None:
        self.pending = True

    def prevent_start(self) -> None:
        self.calls.append("prevent_start")

    def restart(self, _: OnEvent) -> None:
        self.calls.append("restart")
        if self.restart_error:
            raise self.restart_error
        self.pending = False

    def wait_ready(self, _: OnEvent, *, all_repaired: bool) -> None:
        self.calls.append(f"wait_ready {all_repaired}")
        if self.wait_error:
            raise self.wait_error

    def confirm(self, *, repaired: bool) -> None:
        self.calls.append(f"confirm {repaired}")
        if self.state_error:
            raise self.state_error


def _heal(
    *parts: FakePart, service: FakeService | None = None, dry_run: bool = False
) -> tuple[HealRun, list[dict[str, Any]]]:
    heal_run, events = HealRun({"id": "x"}, dry_run), []

    def on_event(event: str, **facts: Any) -> None:
        events.append({"event": event, **facts})

    heal(parts, service or FakeService(), on_event, heal_run)
    return heal_run, events


def test_nothing_is_wrong() -> None:
    service = FakeService()
    heal_run, events = _heal(FakePart("code"), service=service)
    assert heal_run.code == 0
    assert service.calls == ["confirm False"]
    assert [e["event"] for e in events] == ["examining", "planned"]
    assert heal_run.report()["summary"] == "nothing is wrong"


def test_everything_is_repaired_and_reported() -> None:
    code, models, service = FakePart("code", [PACK]), FakePart("models", [MODEL]), FakeService()
    heal_run, events = _heal(code, models, service=service)
    assert [e["event"] for e in events] == [
        "examining", "found", "examining", "found", "planned", "repairing", "repaired", "repairing", "repaired",
    ]  # fmt: skip
    assert service.calls == ["restart", "wait_ready True", "confirm True"]
    report = heal_run.report()
    assert report["ok"]
    assert report["restarted"] == 1
    assert report["fetched"] == 10
    assert [(d["name"], d["outcome"]) for d in report["damages"]] == [("tooling", "repaired"), ("vae", "repaired")]
    assert report["summary"] == "2 things found, 2 repaired, ComfyUI was restarted"
    second, _ = _heal(code, models, service=service)
    assert second.code == 0
    assert second.report()["damages"] == []


def test_a_dry_run_changes_nothing_and_reports_that() -> None:
    code, service = FakePart("code", [PACK, LOST]), FakeService()
    heal_run, events = _heal(code, service=service, dry_run=True)
    assert code.repaired == []
    assert service.calls == []
    assert not service.pending
    assert heal_run.code == 1
    report = heal_run.report()
    assert [d["outcome"] for d in report["damages"]] == ["planned", "not repaired"]
    assert "nothing was changed" in report["summary"]
    assert events[-1]["event"] == "planned"
    assert events[-1]["restart"]


def test_a_failed_repair_does_not_stop_the_others() -> None:
    models = FakePart("models", [MODEL], repair_error=FetchError("no network", "look at it"))
    code, service = FakePart("code", [GRAPH]), FakeService()
    heal_run, events = _heal(code, models, service=service)
    assert code.repaired == ["gold.json"]
    assert heal_run.code == 4
    report = heal_run.report()
    assert not report["ok"]
    assert report["damages"][1]["why"] == "no network"
    assert report["damages"][1]["next"] == "look at it"
    assert "1 not repaired" in report["summary"]
    assert events[-1] == {"event": "failed", "kind": "model", "name": "vae", "why": "no network", "next": "look at it"}
    assert service.calls == []  # nothing to wait for: not all is repaired, and ComfyUI was not restarted


def test_comfyui_that_serves_is_not_restarted_onto_damaged_code() -> None:
    service = FakeService()
    heal_run, _ = _heal(FakePart("code", [PACK], repair_error=CheckError("disk full")), service=service)
    assert service.calls == []
    assert service.pending
    assert heal_run.restarted == 0
    assert "tooling could not be repaired" in heal_run.report()["troubles"][0]["why"]
    down = FakeService(serves=False)
    _heal(FakePart("code", [PACK], repair_error=CheckError("disk full")), service=down)
    assert down.calls == ["prevent_start", "restart", "wait_ready False"]


def test_an_unrepairable_damage_is_reported_as_failed() -> None:
    heal_run, events = _heal(FakePart("code", [LOST]))
    assert events[-1]["event"] == "failed"
    assert heal_run.code == 1
    assert heal_run.report()["damages"][0]["outcome"] == "failed"
    assert heal_run.report()["damages"][0]["next"] == "start a fresh instance"


def test_a_part_that_cannot_be_examined_is_a_failure() -> None:
    heal_run, events = _heal(
        FakePart("code", examine_error=CheckError("no such venv", "start a fresh one")), FakePart("x", [GRAPH])
    )
    assert heal_run.code == 1
    assert heal_run.report()["troubles"] == [{"why": "no such venv", "next": "start a fresh one"}]
    assert [d["outcome"] for d in heal_run.report()["damages"]] == ["repaired"]
    assert events[1]["event"] == "failed"


@pytest.mark.parametrize("where", ["restart_error", "wait_error"])
def test_a_failed_restart_is_a_failure(where: str) -> None:
    service = FakeService()
    setattr(service, where, CheckError("ComfyUI does not start"))
    heal_run, _ = _heal(FakePart("code", [PACK]), service=service)
    assert heal_run.code == 1
    assert "ComfyUI does not start" in heal_run.report()["summary"]


def test_an_interrupted_heal_reports_what_it_did() -> None:
    heal_run = HealRun({"id": "x"})
    parts = FakePart("code", [GRAPH]), FakePart("models", [MODEL], repair_error=KeyboardInterrupt())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        heal(parts, FakeService(), lambda *_, **__: None, heal_run)
    report = heal_run.report(130)
    assert not report["ok"]
    assert [d["outcome"] for d in report["damages"]] == ["repaired", "not repaired"]
    assert "interrupted" in report["summary"]


def test_a_pending_restart_is_reported() -> None:
    service = FakeService(pending=True)
    heal_run, _ = _heal(FakePart("code"), service=service)
    assert service.calls == ["restart", "wait_ready True", "confirm True"]
    assert heal_run.code == 0
    assert heal_run.report()["summary"] == (
        "nothing is wrong; ComfyUI was restarted, because an interrupted heal had left that restart pending"
    )


# --- the state of the whole instance

FAILED = CheckError("failed: port 8188 is held by `nginx` (process 7)", "end that program")


@pytest.mark.parametrize("dry_run", [False, True])
def test_nothing_to_repair_on_an_instance_that_does_not_work(dry_run: bool) -> None:
    service = FakeService(state_error=FAILED)
    heal_run, events = _heal(FakePart("code"), service=service, dry_run=dry_run)
    assert service.calls == ["confirm False"]
    assert heal_run.code == 1
    report = heal_run.report()
    assert (report["ok"], report["code"], report["damages"]) == (False, 1, [])
    assert report["summary"] == FAILED.message
    assert report["troubles"] == [{"why": FAILED.message, "next": FAILED.next_step}]
    assert [e["event"] for e in events] == ["examining", "planned"]


def test_a_dry_run_on_an_instance_that_works_is_no_failure() -> None:
    service = FakeService()
    heal_run, _ = _heal(FakePart("code"), service=service, dry_run=True)
    assert (heal_run.code, service.calls) == (0, ["confirm False"])
    assert heal_run.report()["summary"] == "nothing is wrong"


def test_a_dry_run_with_a_pending_restart_repairs_nothing() -> None:
    service = FakeService(pending=True)
    _heal(FakePart("code"), service=service, dry_run=True)
    assert service.calls == ["confirm False"]
    assert service.pending


def test_repaired_and_yet_not_well() -> None:
    heal_run, _ = _heal(FakePart("code", [GRAPH]), service=FakeService(state_error=FAILED))
    assert heal_run.code == 1
    assert heal_run.report()["summary"] == (f"1 thing found, 1 repaired, ComfyUI was not restarted, {FAILED.message}")


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    "part",
    [
        FakePart("code", examine_error=CheckError("no such venv")), FakePart("code", [LOST]),
        FakePart("models", [MODEL], repair_error=FetchError("no network")),
    ],
    ids=["not examined", "not repairable", "not repaired"],
)  # fmt: skip
def test_what_failed_already_is_not_confirmed(part: FakePart, dry_run: bool) -> None:
    """Its own words say why; the state's would only repeat them."""
    service = FakeService(state_error=FAILED)
    heal_run, _ = _heal(part, service=service, dry_run=dry_run)
    assert heal_run.code != 0
    assert not [call for call in service.calls if call.startswith("confirm")]
    assert FAILED.message not in heal_run.report()["summary"]


@pytest.mark.parametrize("where", ["restart_error", "wait_error"])
def test_a_failed_restart_is_not_confirmed(where: str) -> None:
    service = FakeService()
    setattr(service, where, CheckError("ComfyUI does not start"))
    _heal(FakePart("code", [PACK]), service=service)
    assert "confirm True" not in service.calls


def test_the_lock_is_released_before_the_state_is_asked_for() -> None:
    """The agent does not touch the models while a heal holds their lock."""
    service = FakeService()
    heal(
        [FakePart("code", [GRAPH])],
        service,
        lambda *_, **__: None,
        HealRun({}),
        lambda: service.calls.append("release"),
    )
    assert service.calls == ["release", "wait_ready True", "confirm True"]
