"""One heal, with parts and a service that are made up: the order of what happens, and an honest report of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError, FetchError
from gesso.runtime.heal.damage import Damage, Outcome
from gesso.runtime.heal.runner import Healing, heal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gesso.runtime.heal.runner import OnBytes, Tell

PACK = Damage("pack", "tooling", "is gone", "restore it", restart=True)
GRAPH = Damage("workflow", "gold.json", "differs", "put it there")
MODEL = Damage("model", "vae", "stub", "fetch it", offline=False, size=10)
LOST = Damage("pack", "old", "differs", "", repairable=False, next_step="start a fresh instance")


@dataclass
class Room:
    what: str
    damages: list[Damage] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    fails: Exception | None = None
    blind: Exception | None = None

    def examine(self, on_bytes: OnBytes) -> Sequence[Damage]:
        if self.blind:
            raise self.blind
        on_bytes(1, 2)
        return list(self.damages)

    def repair(self, damages: Sequence[Damage], _: Tell) -> Sequence[Outcome]:
        if self.fails:
            raise self.fails
        self.done += [damage.name for damage in damages]
        self.damages = [damage for damage in self.damages if damage not in damages]
        return [Outcome(damage, "repaired", received=damage.size or 0) for damage in damages]


@dataclass
class Comfy:
    is_up: bool = True
    owed: bool = False
    did: list[str] = field(default_factory=list)
    refuses: Exception | None = None
    unsettled: Exception | None = None

    def up(self) -> bool:
        return self.is_up

    def due(self) -> bool:
        return self.owed

    def owe(self) -> None:
        self.owed = True

    def hold(self) -> None:
        self.did.append("hold")

    def restart(self, _: Tell) -> None:
        self.did.append("restart")
        if self.refuses:
            raise self.refuses
        self.owed = False

    def settle(self, _: Tell, *, whole: bool) -> None:
        self.did.append(f"settle {whole}")
        if self.unsettled:
            raise self.unsettled


def _heal(*rooms: Room, comfy: Comfy | None = None, dry_run: bool = False) -> tuple[Healing, list[dict[str, Any]]]:
    healing, events = Healing({"id": "x"}, dry_run), []

    def tell(event: str, **facts: Any) -> None:
        events.append({"event": event, **facts})

    heal(rooms, comfy or Comfy(), tell, healing)
    return healing, events


def test_nothing_is_wrong() -> None:
    comfy = Comfy()
    healing, events = _heal(Room("code"), comfy=comfy)
    assert healing.code == 0
    assert comfy.did == []
    assert [e["event"] for e in events] == ["examining", "planned"]
    assert healing.report()["summary"] == "nothing is wrong"


def test_everything_is_repaired_and_told() -> None:
    code, models, comfy = Room("code", [PACK]), Room("models", [MODEL]), Comfy()
    healing, events = _heal(code, models, comfy=comfy)
    assert [e["event"] for e in events] == [
        "examining", "found", "examining", "found", "planned", "repairing", "repaired", "repairing", "repaired",
    ]  # fmt: skip
    assert comfy.did == ["restart", "settle True"]
    report = healing.report()
    assert report["ok"]
    assert report["restarted"] == 1
    assert report["fetched"] == 10
    assert [(d["name"], d["outcome"]) for d in report["damages"]] == [("tooling", "repaired"), ("vae", "repaired")]
    assert report["summary"] == "2 things found, 2 repaired, ComfyUI was restarted"
    again, _ = _heal(code, models, comfy=comfy)
    assert again.code == 0
    assert again.report()["damages"] == []


def test_a_dry_run_changes_nothing_and_says_so() -> None:
    code, comfy = Room("code", [PACK, LOST]), Comfy()
    healing, events = _heal(code, comfy=comfy, dry_run=True)
    assert code.done == []
    assert comfy.did == []
    assert not comfy.owed
    assert healing.code == 1
    report = healing.report()
    assert [d["outcome"] for d in report["damages"]] == ["planned", "not repaired"]
    assert "nothing was changed" in report["summary"]
    assert events[-1]["event"] == "planned"
    assert events[-1]["restart"]


def test_a_repair_that_fails_keeps_the_others_from_nothing() -> None:
    models = Room("models", [MODEL], fails=FetchError("no network", "look at it"))
    code, comfy = Room("code", [GRAPH]), Comfy()
    healing, events = _heal(code, models, comfy=comfy)
    assert code.done == ["gold.json"]
    assert healing.code == 4
    report = healing.report()
    assert not report["ok"]
    assert report["damages"][1]["why"] == "no network"
    assert report["damages"][1]["next"] == "look at it"
    assert "1 not repaired" in report["summary"]
    assert events[-1] == {"event": "failed", "kind": "model", "name": "vae", "why": "no network", "next": "look at it"}
    assert comfy.did == []  # nothing to wait for: it is not right, and ComfyUI was not restarted


def test_code_that_could_not_be_repaired_is_not_started_where_the_old_still_serves() -> None:
    comfy = Comfy()
    healing, _ = _heal(Room("code", [PACK], fails=CheckError("disk full")), comfy=comfy)
    assert comfy.did == []
    assert comfy.owed
    assert healing.restarted == 0
    assert "tooling could not be repaired" in healing.report()["troubles"][0]["why"]
    down = Comfy(is_up=False)
    _heal(Room("code", [PACK], fails=CheckError("disk full")), comfy=down)
    assert down.did == ["hold", "restart", "settle False"]


def test_what_cannot_be_repaired_is_a_failure_that_is_told() -> None:
    healing, events = _heal(Room("code", [LOST]))
    assert events[-1]["event"] == "failed"
    assert healing.code == 1
    assert healing.report()["damages"][0]["outcome"] == "failed"
    assert healing.report()["damages"][0]["next"] == "start a fresh instance"


def test_a_part_that_cannot_be_looked_at_is_a_failure() -> None:
    healing, events = _heal(Room("code", blind=CheckError("no such venv", "start a fresh one")), Room("x", [GRAPH]))
    assert healing.code == 1
    assert healing.report()["troubles"] == [{"why": "no such venv", "next": "start a fresh one"}]
    assert [d["outcome"] for d in healing.report()["damages"]] == ["repaired"]
    assert events[1]["event"] == "failed"


@pytest.mark.parametrize("where", ["refuses", "unsettled"])
def test_a_restart_that_comes_to_nothing_is_a_failure(where: str) -> None:
    comfy = Comfy()
    setattr(comfy, where, CheckError("ComfyUI does not start"))
    healing, _ = _heal(Room("code", [PACK]), comfy=comfy)
    assert healing.code == 1
    assert "ComfyUI does not start" in healing.report()["summary"]


def test_an_interrupted_one_reports_what_it_did() -> None:
    healing = Healing({"id": "x"})
    rooms = Room("code", [GRAPH]), Room("models", [MODEL], fails=KeyboardInterrupt())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        heal(rooms, Comfy(), lambda *_, **__: None, healing)
    report = healing.report(130)
    assert not report["ok"]
    assert [d["outcome"] for d in report["damages"]] == ["repaired", "not repaired"]
    assert "interrupted" in report["summary"]


def test_a_restart_that_was_owed_is_told() -> None:
    comfy = Comfy(owed=True)
    healing, _ = _heal(Room("code"), comfy=comfy)
    assert comfy.did == ["restart", "settle True"]
    assert healing.code == 0
    assert healing.report()["summary"] == (
        "nothing is wrong; ComfyUI was restarted, which an interrupted heal still owed it"
    )
