"""Which models are wanted: from a lock, from an image's record, by name and by tier; and in which order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.errors import ManifestError
from gesso.manifest.load import load
from gesso.manifest.lock import read_lock
from gesso.models.tiers import TIERS, in_order
from gesso.models.wanted import choose, from_lock, from_record

from .making import wanted

if TYPE_CHECKING:
    from gesso.manifest.schema import Model

PROJECT = Path(__file__).resolve().parents[3]


def model(name: str, tier: str = "required", size: int | None = 1) -> Model:
    return wanted(name.encode(), name, tier=tier, size=size)


A, B, C = model("vae/a.sft"), model("vae/b.sft", "recommended"), model("vae/c.sft", "optional")
ALL = (A, B, C)


# ── by name and tier ──


def test_without_names_all_are_chosen_in_their_order() -> None:
    assert choose(ALL) == ALL
    assert choose([]) == ()


def test_a_path_or_its_last_part_names_a_model_and_twice_is_once() -> None:
    assert choose(ALL, ["vae/b.sft"]) == (B,)
    assert choose(ALL, ["b.sft"]) == (B,)
    assert choose(ALL, ["c.sft", "a.sft", "vae/a.sft"]) == (A, C)


@pytest.mark.parametrize(
    ("tier", "found"), [("required", (A,)), ("recommended", (A, B)), ("optional", ALL), (None, ALL)]
)
def test_a_tier_takes_all_above_it(tier: str | None, found: tuple[Model, ...]) -> None:
    assert choose(ALL, tier=tier) == found


def test_names_and_tier_both_count() -> None:
    assert choose(ALL, ["a.sft", "c.sft"], "recommended") == (A,)


def test_an_unknown_name_is_said_with_what_was_perhaps_meant() -> None:
    models = (wanted(name="vae/sdxl_vae_fp16.safetensors"),)
    with pytest.raises(ManifestError, match=r"no model is called sdxl_vae_pf16\.safetensors") as caught:
        choose(models, ["sdxl_vae_pf16.safetensors"])
    assert "did you mean" in caught.value.next_step
    assert "sdxl_vae_fp16.safetensors" in caught.value.next_step
    assert caught.value.exit_code == 2


def test_an_unknown_name_like_none_is_said_with_all_that_are_known() -> None:
    with pytest.raises(ManifestError, match="no model is called zzz, qqq") as caught:
        choose(ALL, ["zzz", "a.sft", "qqq"])
    assert caught.value.next_step == "known: vae/a.sft, vae/b.sft, vae/c.sft"


def test_a_last_part_that_two_models_share_never_names_one_of_them_in_silence() -> None:
    """Both are right: to take the two, or to ask which."""
    two = (model("vae/model.sft"), wanted(b"x", "unet/model.sft", kind="diffusion_model"))
    try:
        said = " ".join(found.name for found in choose(two, ["model.sft"]))
    except ManifestError as error:
        said = str(error)
    assert "vae/model.sft" in said
    assert "unet/model.sft" in said


# ── order ──


def test_required_come_first_and_the_smallest_first() -> None:
    models = [
        model("vae/o.sft", "optional", 1), model("vae/big.sft", size=9), model("vae/r.sft", "recommended", 2),
        model("vae/b.sft", size=3), model("vae/a.sft", size=3), model("vae/n.sft", size=None),
    ]  # fmt: skip
    assert [m.name[4:-4] for m in in_order(models)] == ["n", "a", "b", "big", "r", "o"]


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from(TIERS)), max_size=8), st.randoms())
def test_the_order_depends_on_nothing_else(entries: list[tuple[int, str]], random: Any) -> None:
    models = [model(f"vae/{n}.sft", tier, size) for n, (size, tier) in enumerate(entries)]
    shuffled = random.sample(models, len(models))
    assert in_order(shuffled) == in_order(models)
    assert [TIERS.index(m.tier) for m in in_order(models)] == sorted(TIERS.index(m.tier) for m in models)


# ── an image's record ──


def test_a_record_gives_the_models_that_were_written() -> None:
    assert from_record([m.model_dump(mode="json") for m in ALL], "build.json") == ALL
    assert from_record([m.model_dump(mode="json", exclude_none=True) for m in ALL], "build.json") == ALL
    assert from_record([], "build.json") == ()


def test_every_wrong_entry_is_named_with_the_file_the_model_and_the_key() -> None:
    right = A.model_dump(mode="json")
    broken: Any = [right, right | {"sha256": "short"}, {"name": "vae/x.sft"}, "text", None, right | {"name": "../x"}]
    with pytest.raises(ManifestError) as caught:
        from_record(broken, "/opt/gesso/build.json")
    lines = caught.value.message.split("\n")
    assert len(lines) == 5
    assert all(line.startswith("/opt/gesso/build.json: model ") for line in lines)
    assert lines[0].startswith("/opt/gesso/build.json: model vae/a.sft: sha256: ")
    assert "sources: " in lines[1]
    assert "license: " in lines[1]
    assert "number 4" in lines[2]
    assert "number 5" in lines[3]
    assert "`..` is not allowed" in lines[4]
    assert caught.value.next_step


def test_a_record_cannot_lead_out_of_the_models_folder() -> None:
    for name in ("/etc/passwd", "vae/../../x.sft", "vae\\..\\x.sft", ".gesso/x.sft"):
        with pytest.raises(ManifestError):
            from_record([A.model_dump(mode="json") | {"name": name}], "r")


# ── a lock ──


@pytest.mark.parametrize("arch", ["sdxl", "flux"])
def test_a_lock_says_where_and_how_large_and_the_manifest_all_else(arch: str) -> None:
    manifest = load(PROJECT / f"manifests/{arch}.yaml", root=PROJECT).manifest
    lock = read_lock(PROJECT / f"manifests/locks/{arch}.lock.json")
    models = from_lock(manifest, lock)
    locked = {m.name: m for m in lock.models}
    assert [m.name for m in models] == [m.name for m in manifest.models]
    for found, own in zip(models, manifest.models, strict=True):
        assert (found.sources, found.size, found.sha256) == (
            locked[own.name].sources, locked[own.name].size, locked[own.name].sha256,
        )  # fmt: skip
        assert (found.tier, found.kind, found.family, found.license) == (own.tier, own.kind, own.family, own.license)


@pytest.mark.parametrize("sure", [True, False])
def test_whether_the_size_is_confirmed_is_the_locks_or_the_records_to_say(*, sure: bool) -> None:
    manifest = load(PROJECT / "manifests/sdxl.yaml").manifest
    lock = read_lock(PROJECT / "manifests/locks/sdxl.lock.json")
    locked = tuple(model.model_copy(update={"size_confirmed": sure}) for model in lock.models)
    found = from_lock(manifest, lock.model_copy(update={"models": locked}))
    assert {model.size_confirmed for model in found} == {sure}
    entry = A.model_dump(exclude={"size_confirmed"})
    assert from_record([entry | {"size_confirmed": sure}], "x")[0].size_confirmed == sure
    assert not from_record([entry], "the record of an older image")[0].size_confirmed
