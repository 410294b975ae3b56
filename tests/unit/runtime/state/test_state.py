"""The state of an instance, as a table: the facts on the left, the resulting state and texts on the right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.runtime.state.state import MAX_IDLE_STARTS, Facts, ModelFact, Name, Progress, Stage, Trouble, judge, progress

DISK = Trouble("the required models need 3.0 GB more", "take a larger disk")
GONE = Trouble("127.0.0.1: no answer", "check the network")
GUARD = Trouble("guard: sqlalchemy is 1.4.54", "start a fresh instance")


def _model(stage: Stage = "verified", tier: str = "required", **more: Any) -> ModelFact:
    return ModelFact(f"{tier}/{stage}", tier, stage, **{"size": 100, "done": 0, **more})


HERE = (_model(), _model(tier="optional"))
READY = Facts(
    models_known=True, models=HERE, process="RUNNING", up=True, missing=(), published=True, gate_up=True
)  # fmt: skip
GATE = Trouble("port 8188 is held by `nginx` (process 7)", "end that program")
PORT = Trouble("port 18188 is held by `nc` (process 9)", "end the other one")


def _with(*models: ModelFact, **more: Any) -> Facts:
    return replace(READY, models=(*HERE, *models), **more)


TABLE: dict[str, tuple[Facts, Name, str, str]] = {
    "nothing is known": (Facts(), "booting", "checking what is here", ""),
    "all is well": (READY, "ready", "Krita can work", ""),
    # models
    "not checked yet": (
        replace(READY, models_known=False, models=(_model("waiting"),)), "booting", "checking what is here", "",
    ),
    "one is fetched": (_with(_model("fetching", done=40)), "fetching", "1 required model to come, 70 %", ""),
    "all but the last byte": (_with(_model("fetching", size=1000, done=999)), "fetching", "99 %", ""),
    "two are to come, ComfyUI too": (
        _with(_model("fetching"), _model("waiting"), up=False), "fetching", "ComfyUI is starting meanwhile", "",
    ),
    "one is checked": (_with(_model("checking")), "fetching", "1 required model", ""),
    "a required one failed": (_with(_model("failed", trouble=GONE)), "failed", "no answer", "check the network"),
    "two required ones failed": (
        _with(_model("failed", trouble=GONE), _model("failed", trouble=GONE)), "failed", "(and 1 more)", "check",
    ),
    "a required one failed and is retried": (
        _with(_model("waiting", trouble=GONE)), "failed", "no answer", "check the network",
    ),
    "a required one failed, then came": (_with(_model("verified", trouble=GONE)), "ready", "Krita can work", ""),
    "required models do not fit": (
        _with(_model("waiting"), fetch_trouble=DISK), "failed", "need 3.0 GB more", "larger disk",
    ),
    "fetching cannot begin, but all is here": (replace(READY, fetch_trouble=DISK), "ready", "Krita can work", ""),
    "fetching never began": (
        replace(READY, models_known=False, models=(_model("waiting"),), fetch_trouble=DISK),
        "failed", "need 3.0 GB", "disk",
    ),
    "an optional one is left out": (
        _with(_model("left-out", "optional", message="9 GB do not fit")), "degraded", "optional/left-out", "larger",
    ),
    "an optional one failed": (
        _with(_model("failed", "optional", trouble=GONE)), "degraded", "optional/failed", "check the network",
    ),
    "a recommended one failed and is retried": (
        _with(_model("waiting", "recommended", trouble=GONE)), "degraded", "recommended/waiting", "check",
    ),
    "an optional one is on its way": (_with(_model("fetching", "optional")), "ready", "Krita can work", ""),
    # ComfyUI
    "it starts": (replace(READY, up=False, missing=None, published=False), "starting", "ComfyUI is starting", ""),
    "it is up, its classes not queried": (replace(READY, missing=None), "starting", "ComfyUI is starting", ""),
    "nothing published yet": (replace(READY, published=False), "starting", "publishing the workflows", ""),
    "publishing is refused": (
        replace(READY, published=False, publish_trouble=Trouble("answers 500", "look")),
        "failed", "answers 500", "look",
    ),
    "a class is missing": (
        replace(READY, missing=("IPAdapter",)), "failed", "IPAdapter", "`gesso logs comfyui`",
    ),
    "a class is missing while models come": (
        _with(_model("fetching"), missing=("IPAdapter",)), "failed", "IPAdapter", "`gesso logs comfyui`",
    ),
    "the guard refused": (replace(READY, up=False, refused=GUARD), "failed", "sqlalchemy is 1.4.54", "fresh instance"),
    "the guard refused once, now it is up": (replace(READY, refused=GUARD), "ready", "Krita can work", ""),
    "it was given up": (replace(READY, up=False, process="FATAL"), "failed", "does not stay up", "automatically"),
    "it is stopped": (replace(READY, up=False, process="STOPPED"), "failed", "is stopped", "`gesso logs comfyui`"),
    "each start fails": (replace(READY, up=False, idle_starts=MAX_IDLE_STARTS), "failed", "does not stay up", "logs"),
    "it died once": (replace(READY, up=False, idle_starts=MAX_IDLE_STARTS - 1), "starting", "ComfyUI is starting", ""),
    "it waits for its next start": (replace(READY, up=False, process="BACKOFF"), "starting", "is starting", ""),
    # the gate, and ComfyUI's own port
    "the gate is not up": (replace(READY, gate_up=False), "starting", "the gate is starting: the public port", ""),
    "the gate is not up, nor ComfyUI": (
        replace(READY, gate_up=False, up=False), "starting", "ComfyUI is starting", "",
    ),
    "the gate is up, nothing published yet": (
        replace(READY, gate_up=False, published=False), "starting", "the gate is starting", "",
    ),
    "the gate has a trouble": (replace(READY, gate_trouble=GATE), "failed", GATE.why, GATE.next_step),
    "it has one while models come": (
        _with(_model("failed", trouble=GONE), gate_trouble=GATE), "failed", GATE.why, GATE.next_step,
    ),
    "ComfyUI's port has a trouble": (replace(READY, port_trouble=PORT), "failed", PORT.why, PORT.next_step),
    "its port comes before what the guard said": (
        replace(READY, up=False, refused=GUARD, port_trouble=PORT), "failed", PORT.why, PORT.next_step,
    ),
    "both ports have one": (
        replace(READY, gate_trouble=GATE, port_trouble=PORT), "failed", f"{GATE.why}; {PORT.why}", GATE.next_step,
    ),
    "the supervisor does not answer, ComfyUI does": (replace(READY, process=""), "ready", "Krita can work", ""),
}  # fmt: skip


@pytest.mark.parametrize(("facts", "state", "why", "step"), TABLE.values(), ids=TABLE.keys())
def test_state_reason_and_next_step(facts: Facts, state: str, why: str, step: str) -> None:
    found = judge(facts)
    assert (found.state, found.usable) == (state, state in {"ready", "degraded"})
    assert why in found.why
    assert step in found.next_step
    assert bool(found.next_step) == (state in {"failed", "degraded"})


def test_every_state_is_in_the_table() -> None:
    assert {state for _, state, _, _ in TABLE.values()} == set(get_args(Name))


def test_missing_and_incoming_models_are_noted() -> None:
    found = judge(_with(_model("fetching", "optional"), _model("failed", "optional", trouble=GONE)))
    assert found.state == "degraded"
    assert found.notes == (
        "optional/failed: 127.0.0.1: no answer",
        "1 more model on the way; Krita can work without",
    )


def test_the_progress_is_that_of_the_required_models() -> None:
    coming = _model("fetching", size=300, done=75, rate=10.0)
    found = progress([*HERE, coming, _model("fetching", "optional", size=9000, done=1, rate=99.0)])
    assert found == Progress(175, 400, 10.0, 22.5)
    assert found.percent == 43
    assert progress([coming, _model("waiting", size=None)]).size == 300
    assert progress([]) == Progress()
    assert Progress().percent is None


@pytest.mark.parametrize(("done", "size", "percent"), [(0, 9, 0), (999, 1000, 99), (1000, 1000, 100), (5, 0, None)])
def test_there_are_100_percent_only_at_the_end(done: int, size: int, percent: int | None) -> None:
    assert Progress(done, size).percent == percent


def test_the_progress_does_not_fall_when_a_model_is_finished() -> None:
    before = progress([_model("fetching", size=100, done=99), _model("fetching", size=100, done=10)])
    after = progress([_model("verified", size=100, done=0), _model("fetching", size=100, done=10)])
    assert after.done > before.done


TROUBLES = st.sampled_from([None, GONE])
MODELS = st.builds(
    ModelFact, st.just("a/b"), st.sampled_from(["required", "recommended", "optional"]),
    st.sampled_from(get_args(Stage)), st.sampled_from([None, 0, 100]), st.integers(0, 100), trouble=TROUBLES,
)  # fmt: skip
FACTS = st.builds(
    Facts, st.booleans(), st.lists(MODELS, max_size=4).map(tuple), TROUBLES,
    st.sampled_from(["", "RUNNING", "STARTING", "BACKOFF", "FATAL", "STOPPED", "EXITED"]), TROUBLES,
    st.integers(0, 5), st.booleans(), st.sampled_from([None, (), ("X",)]), st.booleans(), TROUBLES,
    gate_up=st.booleans(), gate_trouble=TROUBLES, port_trouble=TROUBLES,
)  # fmt: skip


@given(FACTS)
def test_usable_means_that_krita_can_work(facts: Facts) -> None:
    found = judge(facts)
    required = [m for m in facts.models if m.tier == "required"]
    possible = facts.up and facts.missing == () and facts.published and all(m.stage == "verified" for m in required)
    possible = possible and facts.gate_up and facts.gate_trouble is None and facts.port_trouble is None
    assert found.usable <= possible
    assert (found.state == "ready") <= all(m.stage not in {"failed", "left-out"} for m in facts.models)
    assert found.why
