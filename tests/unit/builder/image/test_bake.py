"""`--bake`: the choice of models, and fetching them with the same code as an instance."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gesso.builder.image import bake, trial
from gesso.builder.image.bake import BAKES, LAYER_LIMIT, Baking, choose
from gesso.errors import GessoError, ManifestError
from gesso.manifest.load import load
from gesso.manifest.schema import Model
from gesso.models.fetch import Outcome
from gesso.settings import Project, Selection

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Project(Path(__file__).resolve().parents[4])


def _model(name: str, tier: str = "required", **more: object) -> Model:
    entry = {
        "name": f"vae/{name}.safetensors", "sources": ["https://example.org/x"], "sha256": "0" * 64, "size": 10,
        "kind": "vae", "family": "sdxl", "tier": tier, "license": "MIT", **more,
    }  # fmt: skip
    return Model.model_validate(entry)


MODELS = (_model("a"), _model("b", "recommended"), _model("c", "optional"))


@pytest.mark.parametrize(("which", "names"), [("none", ""), ("required", "a"), ("all", "abc")])
def test_the_choice(which: str, names: str) -> None:
    assert [model.name for model in choose(MODELS, Baking(which))] == [f"vae/{n}.safetensors" for n in names]
    assert which in BAKES


def test_a_model_over_the_registrys_limit_is_refused_with_both_sizes() -> None:
    large = _model("large", size=LAYER_LIMIT + 1)
    with pytest.raises(ManifestError, match=r"vae/large.*10\.0 GB are over the registry's limit of 10\.0 GB"):
        choose((large,), Baking("required"))
    assert choose((large,), Baking("required", layer_limit=LAYER_LIMIT + 1)) == (large,)
    assert choose((_model("fits", size=LAYER_LIMIT),), Baking("required"))


def test_weights_that_must_not_be_redistributed_need_an_accepted_licence() -> None:
    closed = _model("closed", redistribute=False, license="FLUX.1-dev")
    with pytest.raises(ManifestError, match=r"vae/closed.*FLUX\.1-dev, forbids redistribution"):
        choose((closed,), Baking("required"))
    with pytest.raises(ManifestError, match="forbids redistribution"):
        choose((closed, MODELS[0]), Baking("required", licenses=("MIT",)))
    assert choose((closed,), Baking("required", licenses=("FLUX.1-dev",))) == (closed,)
    assert choose((closed,), Baking("none")) == ()


def test_all_problems_are_reported_at_once() -> None:
    bad = (_model("x", size=LAYER_LIMIT + 1, redistribute=False), _model("y", redistribute=False))
    with pytest.raises(ManifestError) as caught:
        choose(bad, Baking("all"))
    assert caught.value.message.count("\n") == 2
    assert "fetched at first boot" in caught.value.next_step


def test_a_licence_that_no_model_has_is_refused() -> None:
    with pytest.raises(ManifestError, match="--accept-license GPL: no model has this licence") as caught:
        choose(MODELS, Baking("all", licenses=("GPL",)))
    assert caught.value.next_step == "known: MIT"


def test_flux_cannot_be_baked_by_accident() -> None:
    """Its weights are under a non-commercial licence, and one file is over the limit of a layer."""
    models = load(Selection(ROOT, "flux").manifest, root=ROOT.root).manifest.models
    with pytest.raises(ManifestError, match="forbids redistribution"):
        choose(models, Baking("required"))


def test_without_models_the_cache_is_not_created(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert bake.bake(ROOT, (), {"GESSO_CACHE": str(cache)}, lambda _: None, is_trial=True) == bake.Baked()
    assert not cache.exists()


def _trial_models() -> tuple[Model, ...]:
    selection = Selection(ROOT, "sdxl", trial=True)
    return load(selection.manifest, selection.layers, root=ROOT.root).manifest.models


def test_a_trial_bakes_the_models_of_its_own_mirror(tmp_path: Path) -> None:
    """Over HTTP, with the ordinary fetch, into the store; a second run fetches nothing."""
    models = choose(_trial_models(), Baking("required"))
    kinds: list[str] = []
    for expected in ("done", "there"):
        kinds.clear()
        baked = bake.bake(ROOT, models, {"GESSO_CACHE": str(tmp_path)}, lambda e: kinds.append(e.kind), is_trial=True)
        assert kinds.count(expected) == len(models)
    assert baked.folder is not None
    for model in models:
        content = baked.folder.path(model.name).read_bytes()
        assert content == trial.content(model)
        assert hashlib.sha256(content).hexdigest() == model.sha256


@pytest.mark.parametrize("state", ["failed", "skipped"])
def test_a_model_that_was_not_fetched_stops_the_build(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(models: Sequence[Model], *_: object, **__: object) -> list[Outcome]:
        error = GessoError("no response") if state == "failed" else None
        return [Outcome(models[0], "failed" if error else "skipped", note="no room", error=error)]

    monkeypatch.setattr(bake, "fetch", fetch)
    with pytest.raises(GessoError, match="no response" if state == "failed" else "no room"):
        bake.bake(ROOT, MODELS[:1], {"GESSO_CACHE": str(tmp_path)}, lambda _: None, is_trial=False)
