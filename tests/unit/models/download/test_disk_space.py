"""Room is decided before the first byte: required first, then what fits, and what does not is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gesso.models.download import disk_space
from gesso.models.download.disk_space import RESERVE, Disk, plan
from gesso.models.tiers import TIERS, in_order
from tests.unit.models.making import wanted

if TYPE_CHECKING:
    from gesso.manifest.schema import Model

GB = 10**9
# A disk of which all that is free may be filled; the reserve is a matter of its own.
ROOMY = 10**18


def model(name: str, size: int | None, tier: str = "required") -> Model:
    return wanted(name.encode(), f"vae/{name}.safetensors", size=size, tier=tier)


def on_one(models: list[Model], usable: int, here: dict[str, int] | None = None) -> disk_space.SpacePlan:
    disk = Disk(usable + RESERVE, ROOMY)
    assert disk.usable == usable
    here = {f"vae/{name}.safetensors": count for name, count in (here or {}).items()}
    return plan(models, here, {m.name: "disk" for m in models}, {"disk": disk})


def short(models: tuple[Model, ...] | dict[str, str]) -> list[str]:
    return [(m if isinstance(m, str) else m.name)[4:-12] for m in models]


def test_what_fits_is_taken_required_first_and_the_smallest_first() -> None:
    models = [model("o", 1, "optional"), model("big", 9), model("r", 2, "recommended"), model("small", 3)]
    found = on_one(models, 15)
    assert (short(found.take), found.skip, found.lacking) == (["small", "big", "r", "o"], {}, {})


def test_what_does_not_fit_is_left_out_and_said_and_what_is_smaller_still_fits() -> None:
    models = [model("a", 5 * GB), model("b", 4 * GB, "recommended"), model("c", 1 * GB, "optional")]
    found = on_one(models, 7 * GB)
    assert short(found.take) == ["a", "c"]
    assert found.skip == {"vae/b.safetensors": "4.0 GB do not fit: 2.0 GB are left on the disk"}
    assert found.lacking == {}


def test_to_the_byte() -> None:
    assert short(on_one([model("a", 5), model("b", 5, "optional")], 10).take) == ["a", "b"]
    assert short(on_one([model("a", 5), model("b", 5, "optional")], 9).take) == ["a"]
    assert on_one([model("a", 10)], 10).lacking == {}
    assert on_one([model("a", 11)], 10).lacking == {"disk": 1}


def test_required_ones_that_do_not_fit_are_never_left_out_in_silence() -> None:
    found = on_one([model("a", 7 * GB), model("b", 6 * GB)], 10 * GB)
    assert found.lacking == {"disk": 3 * GB}
    assert short(found.take) == ["b", "a"]
    assert found.skip == {}


def test_what_a_partial_file_holds_already_needs_no_more_room() -> None:
    assert on_one([model("a", 10)], 4, {"a": 6}).lacking == {}
    assert on_one([model("a", 10)], 3, {"a": 6}).lacking == {"disk": 1}
    assert on_one([model("a", 10), model("b", 4)], 4, {"a": 99}).lacking == {}  # never less than nothing


@pytest.mark.parametrize("tier", TIERS)
def test_what_needs_no_more_room_is_never_refused(tier: str) -> None:
    """Its space was set aside by an earlier run; that logs have since filled the reserve is no reason to stop."""
    found = on_one([model("a", 10 * GB, tier)], -5, {"a": 10 * GB})
    assert (short(found.take), found.skip, found.lacking) == (["a"], {}, {})


def test_what_has_no_size_is_taken() -> None:
    assert short(on_one([model("a", None, "optional")], 0).take) == ["a"]


def test_each_disk_has_its_own_room() -> None:
    models = [model("a", 5), model("b", 5), model("c", 5, "optional")]
    disk_of = {models[0].name: "one", models[1].name: "two", models[2].name: "two"}
    disks = {"one": Disk(RESERVE + 5, ROOMY), "two": Disk(RESERVE + 4, ROOMY)}
    found = plan(models, {}, disk_of, disks)
    assert found.lacking == {"two": 1}
    assert short(found.skip) == ["c"]  # type: ignore[arg-type]


def test_a_reserve_is_left_and_of_a_small_disk_a_fiftieth() -> None:
    assert Disk(free=10 * GB, total=100 * GB).usable == 10 * GB - RESERVE
    assert Disk(free=1_000, total=5_000).usable == 1_000 - 100
    assert Disk(free=0, total=100 * GB).usable == -RESERVE


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0.0 MB"),
        (1_500_000, "1.5 MB"),
        (99_999_999, "100.0 MB"),
        (100_000_000, "0.1 GB"),
        (6_620_000_000, "6.6 GB"),
    ],
)
def test_sizes_as_people_read_them(count: int, said: str) -> None:
    assert disk_space.gigabytes(count) == said


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Model], dict[str, int], dict[str, str], dict[str, Disk]]:
    entries = draw(st.lists(st.tuples(st.integers(1, 100), st.sampled_from(TIERS), st.integers(0, 120)), max_size=8))
    models = [model(str(n), size, tier) for n, (size, tier, _) in enumerate(entries)]
    here = {m.name: count for m, (_, _, count) in zip(models, entries, strict=True)}
    disks = {name: Disk(draw(st.integers(0, 300)), 0) for name in ("one", "two")}
    disk_of = {m.name: draw(st.sampled_from(["one", "two"])) for m in models}
    return models, here, disk_of, disks


@settings(max_examples=120)
@given(cases())
def test_whatever_is_asked_the_room_is_never_overdrawn(
    made: tuple[list[Model], dict[str, int], dict[str, str], dict[str, Disk]],
) -> None:
    models, here, disk_of, disks = made
    found = plan(models, here, disk_of, disks)
    need = {m.name: max(0, (m.size or 0) - here[m.name]) for m in models}
    assert sorted([m.name for m in found.take] + list(found.skip)) == sorted(need)
    assert list(found.take) == in_order(found.take)
    assert all(m in found.take for m in models if m.tier == "required")
    for name, disk in disks.items():
        there = [m for m in found.take if disk_of[m.name] == name]
        required = sum(need[m.name] for m in there if m.tier == "required")
        taken = sum(need[m.name] for m in there)
        assert found.lacking.get(name, 0) == max(0, required - disk.usable)
        assert taken <= max(disk.usable, required)
        for skipped in (m for m in models if m.name in found.skip and disk_of[m.name] == name):
            before = sum(need[m.name] for m in there if in_order([m, skipped])[0] is m)
            assert before + need[skipped.name] > disk.usable  # what is left out did not fit
