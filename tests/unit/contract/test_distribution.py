"""How the contract of an image is distributed to workers: what shares a container stays together, nothing is lost."""

from __future__ import annotations

from pathlib import Path

from gesso.builder.image import contract
from gesso.settings import Project, Selection
from tests.image import distribution

IMAGE = Path(__file__).resolve().parents[2] / "image"
IDS = [
    "tests/image/test_gate.py::test_a", "tests/image/test_launch.py::test_first_boot[args]",
    "tests/image/test_launch.py::test_first_boot[ssh]", "tests/image/test_launch.py::test_reboot[args]",
    "tests/image/test_launch.py::test_alone", "tests/image/test_chaos_fetch.py::test_a",
    "tests/image/test_chaos_fetch.py::test_b",
]  # fmt: skip


def test_tests_that_share_a_container_stay_together() -> None:
    assert [distribution.group_of(nodeid) for nodeid in IDS] == [
        "test_gate", "test_launch args", "test_launch ssh", "test_launch args", "test_launch", IDS[5], IDS[6],
    ]  # fmt: skip


def test_the_longest_come_first_and_modules_keep_their_order() -> None:
    found = distribution.in_order(IDS)
    assert found == [*IDS[5:], *IDS[1:5], IDS[0]]


def test_all_named_modules_exist() -> None:
    """A renamed file would silently be tested on every architecture again, or come last."""
    existing = {path.stem for path in IMAGE.glob("test_*.py")}
    assert {*distribution.FIRST, *distribution.SINGLE, *distribution.ANY_ARCH} <= existing
    assert {"test_bytes", "test_serving", "test_models", "test_heal"}.isdisjoint(distribution.ANY_ARCH)


def test_single_tests_share_no_container() -> None:
    for name in distribution.SINGLE:
        text = (IMAGE / f"{name}.py").read_text(encoding="utf-8")
        assert 'scope="module"' not in text
        assert "instance: Instance" not in text


def test_number_of_workers() -> None:
    assert [contract.workers_on(cores) for cores in (1, 2, 3, 64)] == [2, 3, 4, 4]


def test_pytest_arguments() -> None:
    selection = Selection(Project(IMAGE.parents[1]), "sdxl", (), trial=True)
    found = contract.pytest_args(selection, contract.ContractOptions(workers=3, own=True), Path("x.xml"))
    assert {"-n3", "--gesso-part", "--gesso-trial"} <= set(found)
    assert not [
        word
        for word in contract.pytest_args(selection, contract.ContractOptions(workers=1), Path("x"))
        if word.startswith("-n")
    ]
    assert "--gesso-part" not in found[:2]
    assert "-n2" in contract.pytest_args(selection, contract.ContractOptions(workers=2, sabotage=True), Path("x.xml"))
