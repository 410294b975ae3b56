"""What Krita shows while required models are missing: one short line; nothing once they are verified."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from gesso.runtime.state.coming import models_coming
from gesso.runtime.state.state import ModelFact, Trouble


def _say(*models: ModelFact, **more: Any) -> str:
    return models_coming({"state": "fetching", "models": [asdict(model) for model in models], **more})


DONE = ModelFact("a", "required", "verified", 100, 100)


def test_nothing_is_held_back_when_the_required_are_verified() -> None:
    assert _say() == ""
    assert _say(DONE) == ""
    others = [
        ModelFact("b", "recommended", "fetching", 100, 1),
        ModelFact("c", "optional", "failed", 9, trouble=Trouble("x")),
    ]
    assert _say(DONE, *others) == ""


@pytest.mark.parametrize("state", ["booting", "starting", "ready", "degraded", "failed"])
def test_it_depends_on_the_models_and_not_on_the_state(state: str) -> None:
    """The state asks through the gate: if the gate asked the state, neither would ever be ready."""
    assert _say(DONE, state=state) == ""
    assert _say(ModelFact("a", "required", "waiting", 100), state=state) == "Models are coming: 0 %"


@pytest.mark.parametrize(
    ("size", "done", "rate", "text"),
    [
        (1000, 430, 0.0, "Models are coming: 43 %"),
        (100_000, 43_000, 158.0, "Models are coming: 43 %, about 6 minutes"),
        (100_000, 43_000, 1e9, "Models are coming: 43 %, about 1 minute"),
        (100_000, 43_000, 10.0, "Models are coming: 43 %, about 2 hours"),
        (100_000, 99_999, 0.0, "Models are coming: 99 %"),
        (100_000, 200_000, 0.0, "Models are coming: 99 %"),
        (None, 5, 1.0, "Models are coming, about 1 minute"),
    ],
)
def test_percent_and_time_left(size: int | None, done: int, rate: float, text: str) -> None:
    assert _say(ModelFact("a", "required", "fetching", size, done, rate)) == text


def test_only_required_models_count() -> None:
    other = ModelFact("b", "optional", "fetching", 10**9, 0, 1.0)
    assert _say(ModelFact("a", "required", "fetching", 600, 0, 10.0), other) == "Models are coming: 0 %, about 1 minute"
    verified = ModelFact("c", "required", "verified", 600, 600)
    assert _say(ModelFact("a", "required", "fetching", 600, 0), verified) == "Models are coming: 50 %"


def test_while_they_are_checked() -> None:
    assert _say(DONE, ModelFact("b", "required", "checking", 100)) == "Models are being checked; try again in a minute"


def test_why_one_is_missing() -> None:
    failed = ModelFact("vae/x.safetensors", "required", "failed", 9, trouble=Trouble("HTTP 404\nfrom HOST"))
    coming = ModelFact("b", "required", "fetching", 9)
    assert _say(coming, failed) == "Models are missing: vae/x.safetensors: HTTP 404 from HOST"
    long = ModelFact("n" * 90, "required", "failed", 9, trouble=Trouble("w" * 900))
    assert len(_say(long)) == 120
    assert _say(long).endswith("…")
