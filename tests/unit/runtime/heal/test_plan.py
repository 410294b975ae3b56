"""The order of repairs: offline ones first, and a single restart of ComfyUI, where it costs least."""

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
PACK = Damage("pack", "tooling", "is missing", "restore it", restart=True)
GRAPH = Damage("workflow", "gold.json", "is not the locked one", "restore it")
MODEL = Damage("model", "vae/a.safetensors", "stub", "fetch it", offline=False, size=335)
LOST = Damage("pack", "old", "differs", "", repairable=False, restart=True)
PARTS = ["python", "code", "workspace", "models"]


def _found(*damages: Damage) -> list[tuple[str, list[Damage]]]:
    part = {"python": "python", "pack": "code", "workflow": "workspace", "model": "models"}
    return [(name, [d for d in damages if part[d.kind] == name]) for name in PARTS]


def _steps(result: Plan) -> list[str]:
    return [step.part or step.action for step in result.steps]


def test_nothing_is_wrong() -> None:
    result = plan(_found(), is_up=True)
    assert result.steps == ()
    assert not result.has_restart
    assert not result.prevent_start


def test_comfyui_serves_until_everything_else_is_repaired() -> None:
    result = plan(_found(PYTHON, PACK, GRAPH, MODEL), is_up=True)
    assert _steps(result) == ["python", "code", "workspace", "models", "restart"]
    assert not result.prevent_start
    assert result.fetch_bytes == 335


def test_comfyui_that_is_down_is_started_before_models_are_fetched() -> None:
    result = plan(_found(PYTHON, MODEL), is_up=False)
    assert _steps(result) == ["python", "restart", "models"]
    assert result.prevent_start


def test_workflows_and_models_need_no_restart() -> None:
    for is_up in (True, False):
        result = plan(_found(GRAPH, MODEL), is_up=is_up)
        assert _steps(result) == ["workspace", "models"]
        assert not result.prevent_start


def test_a_pending_restart_of_an_interrupted_heal() -> None:
    assert _steps(plan(_found(), is_up=True, restart_pending=True)) == ["restart"]
    assert _steps(plan(_found(GRAPH, MODEL), is_up=False, restart_pending=True)) == ["workspace", "restart", "models"]


def test_an_unrepairable_damage_is_not_a_step() -> None:
    assert plan(_found(LOST), is_up=True).steps == ()


@given(st.sets(st.sampled_from([PYTHON, PACK, GRAPH, MODEL, LOST])), st.booleans(), st.booleans())
def test_each_damage_is_repaired_once_and_the_restart_follows(
    found: set[Damage], is_up: bool, restart_pending: bool
) -> None:
    result = plan(_found(*found), is_up=is_up, restart_pending=restart_pending)
    repaired = list(itertools.chain.from_iterable(step.damages for step in result.steps))
    assert sorted(map(str, repaired)) == sorted(str(d) for d in found if d.repairable)
    names = _steps(result)
    assert names.count("restart") == int(restart_pending or any(d.restart and d.repairable for d in found))
    if result.has_restart:
        after = names[names.index("restart") + 1 :]
        assert after == ([] if is_up else [name for name in after if name == "models"])


@pytest.mark.parametrize("damage", [PYTHON, MODEL, LOST])
def test_as_json_has_everything_that_the_page_shows(damage: Damage) -> None:
    assert {"kind", "name", "found", "remedy", "restart", "offline", "repairable", "next_step", "size"} <= set(
        damage.as_json()
    )
