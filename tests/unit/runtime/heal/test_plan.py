"""The order of repairs: what is in the image first, and ComfyUI restarted once, where it costs least."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.runtime.heal.damage import Damage
from gesso.runtime.heal.plan import plan

if TYPE_CHECKING:
    from gesso.runtime.heal.plan import Plan

PYTHON = Damage("python", "sqlalchemy", "is 1.4.54", "install it", restart=True)
PACK = Damage("pack", "tooling", "is gone", "restore it", restart=True)
GRAPH = Damage("workflow", "gold.json", "is not the locked one", "put it there")
MODEL = Damage("model", "vae/a.safetensors", "stub", "fetch it", offline=False, size=335)
LOST = Damage("pack", "old", "differs", "", repairable=False, restart=True)
PARTS = ["python", "code", "workspace", "models"]


def _found(*damages: Damage) -> list[tuple[str, list[Damage]]]:
    part = {"python": "python", "pack": "code", "workflow": "workspace", "model": "models"}
    return [(name, [d for d in damages if part[d.kind] == name]) for name in PARTS]


def _steps(made: Plan) -> list[str]:
    return [step.part or step.does for step in made.steps]


def test_nothing_is_wrong() -> None:
    made = plan(_found(), up=True)
    assert made.steps == ()
    assert not made.restarts
    assert not made.hold


def test_comfyui_serves_until_all_else_is_done() -> None:
    made = plan(_found(PYTHON, PACK, GRAPH, MODEL), up=True)
    assert _steps(made) == ["python", "code", "workspace", "models", "restart"]
    assert not made.hold
    assert made.fetches == 335


def test_one_that_does_not_answer_is_started_before_the_models_come() -> None:
    made = plan(_found(PYTHON, MODEL), up=False)
    assert _steps(made) == ["python", "restart", "models"]
    assert made.hold


def test_what_it_reads_anew_each_time_needs_no_restart() -> None:
    for up in (True, False):
        made = plan(_found(GRAPH, MODEL), up=up)
        assert _steps(made) == ["workspace", "models"]
        assert not made.hold


def test_a_restart_that_an_interrupted_heal_owes() -> None:
    assert _steps(plan(_found(), up=True, due=True)) == ["restart"]
    assert _steps(plan(_found(GRAPH, MODEL), up=False, due=True)) == ["workspace", "restart", "models"]


def test_what_cannot_be_repaired_is_no_step() -> None:
    assert plan(_found(LOST), up=True).steps == ()


@given(st.sets(st.sampled_from([PYTHON, PACK, GRAPH, MODEL, LOST])), st.booleans(), st.booleans())
def test_every_damage_once_and_one_restart_after_what_needs_it(found: set[Damage], up: bool, due: bool) -> None:
    made = plan(_found(*found), up=up, due=due)
    repaired = list(itertools.chain.from_iterable(step.damages for step in made.steps))
    assert sorted(map(str, repaired)) == sorted(str(d) for d in found if d.repairable)
    names = _steps(made)
    assert names.count("restart") == int(due or any(d.restart and d.repairable for d in found))
    if made.restarts:
        after = names[names.index("restart") + 1 :]
        assert after == ([] if up else [name for name in after if name == "models"])


@pytest.mark.parametrize("damage", [PYTHON, MODEL, LOST])
def test_as_json_has_all_that_the_page_shows(damage: Damage) -> None:
    assert {"kind", "name", "found", "remedy", "restart", "offline", "repairable", "next_step", "size"} <= set(
        damage.as_json()
    )
