"""How the contract of an image is dealt out to workers: what shares a container stays together, nothing is lost."""

from __future__ import annotations

from pathlib import Path

from gesso.builder.image import contract
from gesso.settings import Project, Selection
from tests.image import dealing

IMAGE = Path(__file__).resolve().parents[2] / "image"
IDS = [
    "tests/image/test_gate.py::test_a", "tests/image/test_launch.py::test_first_boot[args]",
    "tests/image/test_launch.py::test_first_boot[ssh]", "tests/image/test_launch.py::test_reboot[args]",
    "tests/image/test_launch.py::test_alone", "tests/image/test_chaos_fetch.py::test_a",
    "tests/image/test_chaos_fetch.py::test_b",
]  # fmt: skip


def test_what_shares_a_container_is_dealt_as_one() -> None:
    assert [dealing.group_of(nodeid) for nodeid in IDS] == [
        "test_gate", "test_launch args", "test_launch ssh", "test_launch args", "test_launch", IDS[5], IDS[6],
    ]  # fmt: skip


def test_the_longest_come_first_and_each_module_as_it_stands() -> None:
    found = dealing.in_order(IDS)
    assert found == [*IDS[5:], *IDS[1:5], IDS[0]]


def test_what_it_names_is_there() -> None:
    """A file that is renamed would silently be tested on every architecture again, or come last."""
    there = {path.stem for path in IMAGE.glob("test_*.py")}
    assert {*dealing.FIRST, *dealing.SINGLE, *dealing.ANY_ARCH} <= there
    assert {"test_bytes", "test_serving", "test_models", "test_heal"}.isdisjoint(dealing.ANY_ARCH)


def test_single_ones_share_nothing() -> None:
    for name in dealing.SINGLE:
        text = (IMAGE / f"{name}.py").read_text(encoding="utf-8")
        assert 'scope="module"' not in text
        assert "instance: Instance" not in text


def test_how_many_at_once() -> None:
    assert [contract.workers_on(cores) for cores in (1, 2, 3, 64)] == [2, 3, 4, 4]


def test_pytests_words() -> None:
    selection = Selection(Project(IMAGE.parents[1]), "sdxl", (), trial=True)
    found = contract.words(selection, contract.Ask(workers=3, own=True), Path("x.xml"))
    assert {"-n3", "--gesso-part", "--gesso-trial"} <= set(found)
    assert not [word for word in contract.words(selection, contract.Ask(workers=1), Path("x")) if word.startswith("-n")]
    assert "--gesso-part" not in found[:2]
    assert "-n2" in contract.words(selection, contract.Ask(workers=2, sabotage=True), Path("x.xml"))
