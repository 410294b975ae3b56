"""Problems grouped by cause, in an artist's words and in the operator's."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given

from gesso.models.events import Event
from gesso.models.faults import ContentError, ContentWhy, LocalError, LocalWhy, SourceError, SourceWhy, combine
from gesso.models.net.hosts import refusal
from gesso.runtime.state import problems
from gesso.runtime.state.state import Facts, ModelFact, Stage, Trouble, judge
from gesso.runtime.watch.model_sync import trouble_of
from tests.unit.runtime.state.test_state import DISK, FACTS, READY

if TYPE_CHECKING:
    from gesso.models.faults import Fault

HOST = "models.example"


def _failed(name: str, *errors: tuple[str, Fault], tier: str = "required", stage: Stage = "failed") -> ModelFact:
    """Return a model as the agent sees it after all its sources failed."""
    error: Any = combine(name, errors)
    trouble = trouble_of(Event(kind="failed", name=name, message=str(error), fault=error.why))
    return ModelFact(name, tier, stage, 100, source=error.source, trouble=trouble)


def _refused(name: str, status: int = 404, host: str = HOST, **more: Any) -> ModelFact:
    return _failed(name, (host, refusal(status, {}, f"https://{host}/{name}", with_token=False)), **more)


def _with(*models: ModelFact, **more: Any) -> Facts:
    return replace(READY, models=models, **more)


def test_ten_models_that_fail_alike_are_one_problem() -> None:
    names = [f"vae/{n}.safetensors" for n in range(10)]
    (found,) = problems.find(_with(*map(_refused, names)))
    assert (found.cause, found.count, found.names) == (f"HTTP 404 from {HOST}", 10, tuple(names))
    assert found.artist == (
        f"10 models could not be downloaded. The server that has them ({HOST}) says that they are not there. Krita "
        "needs them to work. Waiting will probably not help: show the lines for the operator to whoever runs this "
        "instance."
    )
    assert found.operator.startswith(f"{HOST}: HTTP 404")
    assert "sources" in found.next
    assert not any(name in found.operator for name in names)


def test_other_causes_are_other_problems() -> None:
    models = [
        _refused("a"), _refused("b", 503), _refused("c", 503), _refused("d", host="other.example"),
        _refused("e", 503, tier="optional"), _refused("f", tier="optional", host="third.example"),
    ]  # fmt: skip
    found = problems.find(_with(*models))
    assert [(p.cause, p.names) for p in found] == [
        (f"HTTP 503 from {HOST}", ("b", "c", "e")), (f"HTTP 404 from {HOST}", ("a",)),
        ("HTTP 404 from other.example", ("d",)), ("HTTP 404 from third.example", ("f",)),
    ]  # fmt: skip
    assert "A model could not be downloaded." in found[1].artist
    assert "Krita can work without it." in found[3].artist


def test_what_differs_by_model_does_not_split_a_cause() -> None:
    errors = [ContentError("wrong-hash", f"sha256 {n:064}, the lock says {n + 1:064}") for n in range(5)]
    (found,) = problems.find(_with(*(_failed(f"m{n}", (HOST, error)) for n, error in enumerate(errors))))
    assert (found.cause, found.count) == (f"wrong hash from {HOST}", 5)
    assert found.operator.count("sha256") == 3
    assert found.operator.endswith("; and 2 more")
    assert "something else than expected" in found.artist


def test_with_several_sources_the_chief_one_is_named() -> None:
    busy, login = SourceError("server-error", "HTTP 500: no"), SourceError("gated", "HTTP 403: accept the licence")
    (found,) = problems.find(_with(_failed("a", ("first.example", busy), ("second.example", login))))
    assert found.cause == "HTTP 403 from second.example"
    assert "(second.example) requires a login, or a licence" in found.artist


def test_models_that_take_their_turn_are_no_problem() -> None:
    stages: tuple[Stage, ...] = ("waiting", "fetching", "checking", "verified")
    models = [ModelFact(stage, "required", stage, 100) for stage in stages]
    assert problems.find(_with(*models)) == ()
    assert problems.find(_with(replace(_refused("a"), stage="verified"))) == ()
    assert problems.find(Facts()) == ()
    assert problems.find(READY) == ()


def test_a_failed_model_that_waits_for_its_next_try_stays_a_problem() -> None:
    (found,) = problems.find(_with(_refused("a", 503, stage="waiting")))
    assert "tried again automatically" in found.artist


@pytest.mark.parametrize(
    "facts",
    [
        _with(ModelFact("a", "required", "waiting", 9), ModelFact("b", "required", "verified", 9), fetch_trouble=DISK),
        _with(ModelFact("a", "optional", "left-out", 9, message="9 GB do not fit")),
    ],
)
def test_a_disk_that_is_too_small(facts: Facts) -> None:
    facts = replace(facts, fetch_trouble=facts.fetch_trouble and Trouble("3.0 GB of that do not fit", "larger disk"))
    (found,) = problems.find(facts)
    assert (found.cause, found.names) == ("not enough disk space", ("a",))
    assert "The disk of this instance is too small for it." in found.artist
    assert "larger disk" in found.next


def test_a_fetch_that_cannot_begin() -> None:
    facts = _with(ModelFact("a", "required", "waiting"), ModelFact("b", "required", "waiting"), fetch_trouble=DISK)
    (found,) = problems.find(facts)
    assert (found.cause, found.count, found.next) == (DISK.why, 2, DISK.next_step)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(READY, up=False, process="FATAL"), "ComfyUI, the program that makes the images,"),
        (replace(READY, missing=("IPAdapter",)), "ComfyUI, the program that makes the images,"),
        (replace(READY, published=False, publish_trouble=Trouble("answers 500", "look")), "This instance"),
    ],
)
def test_what_is_no_matter_of_models_comes_first(facts: Facts, words: str) -> None:
    facts = replace(facts, models=(_refused("a"),), drift=("vae is gone", "numpy changed"))
    service, models, changes = problems.find(facts)
    whole = judge(replace(facts, models=()))
    assert (service.cause, service.operator, service.next) == (whole.why, whole.why, whole.next_step)
    assert service.artist.startswith(words)
    assert models.names == ("a",)
    assert (changes.count, changes.operator) == (2, "vae is gone; numpy changed")
    assert "Self-Heal" in changes.artist


FAULTS = [
    *(SourceError(why, "x") for why in get_args(SourceWhy)), *(ContentError(why, "x") for why in get_args(ContentWhy)),
    *(LocalError(why, "x", "y") for why in get_args(LocalWhy)),
]  # fmt: skip


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: error.why)
def test_every_fault_has_words_for_an_artist(error: Fault | LocalError) -> None:
    trouble = trouble_of(Event(kind="failed", name="vae/x", message=str(error), fault=error.why))
    (found,) = problems.find(_with(ModelFact("vae/x", "required", "failed", source=HOST, trouble=trouble)))
    assert found.artist.startswith("A model could not be downloaded. The ")
    assert not re.search(r"[{}_`]|HTTP|sha256|gesso|\bvae/", found.artist)
    assert (HOST in found.cause) == (not isinstance(error, LocalError))


@given(FACTS)
def test_nothing_is_lost(facts: Facts) -> None:
    """Whatever makes an instance failed or degraded is among its problems, and a model is in one problem at most."""
    found, verdict = problems.find(facts), judge(facts)
    if verdict.state in {"failed", "degraded"}:
        assert found
    if verdict.state == "ready":
        assert not found
    assert sum(problem.count for problem in found if problem.names) == sum(len(problem.names) for problem in found)
    for problem in found:
        assert problem.cause
        assert problem.artist
        assert problem.operator
