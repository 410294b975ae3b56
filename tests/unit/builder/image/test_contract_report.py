"""The report of a contract run: stored by the image's id, and when it allows publishing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gesso.builder.image import contract_report
from gesso.builder.image.contract_report import LAST, MAX_AGE, Case, ContractReport, problems_of
from gesso.errors import CheckError

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = "sha256:" + "ab" * 32
NOW = contract_report.now()


def report(**changes: Any) -> ContractReport:
    good: dict[str, Any] = {"image": IMAGE, "arch": "sdxl", "trial": False, "lock": "L", "contract": "C", "whole": True,
                            "passed": 3, "seconds": 1.5, "at": NOW}  # fmt: skip
    return ContractReport(**{**good, **changes})


def test_a_green_report_allows_publishing() -> None:
    assert problems_of(report(), lock="L", contract="C", now=NOW) == []
    assert report().green
    assert report(not_run=(Case(name="gpu", reason="no GPU"),)).green


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"failed": (Case(name="test_x"),)}, "failed: test_x"),
        ({"whole": False}, "only a part"),
        ({"passed": 0}, "no check passed"),
        ({"lock": "other"}, "another lock"),
        ({"contract": "other"}, "contract has changed"),
        ({"at": NOW - MAX_AGE - timedelta(days=1)}, "8 days ago"),
    ],
)
def test_every_problem_is_named(changes: dict[str, Any], reason: str) -> None:
    (problem,) = problems_of(report(**changes), lock="L", contract="C", now=NOW)
    assert reason in problem


def test_an_image_that_was_never_tested() -> None:
    assert problems_of(None, lock="L", contract="C", now=NOW) == ["the image was never tested"]


def test_it_is_stored_and_read_back(tmp_path: Path) -> None:
    env = {"GESSO_CACHE": str(tmp_path)}
    assert contract_report.read(env, IMAGE) is None
    contract_report.write(env, report())
    assert contract_report.read(env, IMAGE) == report()


def test_a_partial_run_that_passed_keeps_the_full_report(tmp_path: Path) -> None:
    env = {"GESSO_CACHE": str(tmp_path)}
    contract_report.write(env, report())
    part = report(whole=False, passed=1)
    contract_report.write(env, part)
    assert contract_report.read(env, IMAGE) == report()
    assert contract_report.read(env, IMAGE, LAST) == part
    bad = report(whole=False, passed=1, failed=(Case(name="test_x"),))
    contract_report.write(env, bad)
    assert contract_report.read(env, IMAGE) == bad, "a failure counts in a partial run too"


def test_an_unreadable_report_is_an_error(tmp_path: Path) -> None:
    env = {"GESSO_CACHE": str(tmp_path)}
    contract_report.write(env, report())
    (contract_report.folder(env, IMAGE) / contract_report.FULL).write_text("{")
    with pytest.raises(CheckError, match=r"not a test report"):
        contract_report.read(env, IMAGE)


def test_every_change_changes_the_contracts_digest(tmp_path: Path) -> None:
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "a.py").write_text("x")
    first = contract_report.contract_of(tmp_path)
    (tmp_path / "checks" / "a.py").write_text("y")
    second = contract_report.contract_of(tmp_path)
    (tmp_path / "checks" / "a.py").rename(tmp_path / "checks" / "b.py")
    assert len({first, second, contract_report.contract_of(tmp_path)}) == 3
