"""The report of a contract run: kept by the image's id, and what it vouches for."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gesso.builder.image import contract_report
from gesso.builder.image.contract_report import FRESH, LAST, Case, Checked, why_not
from gesso.errors import CheckError

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = "sha256:" + "ab" * 32
NOW = contract_report.now()


def report(**changes: Any) -> Checked:
    good: dict[str, Any] = {"image": IMAGE, "arch": "sdxl", "trial": False, "lock": "L", "contract": "C", "whole": True,
                            "passed": 3, "seconds": 1.5, "at": NOW}  # fmt: skip
    return Checked(**{**good, **changes})


def test_a_good_one_vouches() -> None:
    assert why_not(report(), lock="L", contract="C", now=NOW) == []
    assert report().green
    assert report(not_run=(Case(name="gpu", reason="no GPU"),)).green


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"failed": (Case(name="test_x"),)}, "failed: test_x"),
        ({"whole": False}, "only a part"),
        ({"passed": 0}, "no check passed"),
        ({"lock": "other"}, "another lock"),
        ({"contract": "other"}, "contract has changed"),
        ({"at": NOW - FRESH - timedelta(days=1)}, "8 days ago"),
    ],
)
def test_what_keeps_it_from_vouching_is_named(changes: dict[str, Any], said: str) -> None:
    (problem,) = why_not(report(**changes), lock="L", contract="C", now=NOW)
    assert said in problem


def test_an_image_that_was_never_tested() -> None:
    assert why_not(None, lock="L", contract="C", now=NOW) == ["the image was never tested"]


def test_it_is_kept_and_read_back(tmp_path: Path) -> None:
    env = {"GESSO_CACHE": str(tmp_path)}
    assert contract_report.read(env, IMAGE) is None
    contract_report.write(env, report())
    assert contract_report.read(env, IMAGE) == report()


def test_a_part_that_passed_leaves_the_whole_one(tmp_path: Path) -> None:
    env = {"GESSO_CACHE": str(tmp_path)}
    contract_report.write(env, report())
    part = report(whole=False, passed=1)
    contract_report.write(env, part)
    assert contract_report.read(env, IMAGE) == report()
    assert contract_report.read(env, IMAGE, LAST) == part
    bad = report(whole=False, passed=1, failed=(Case(name="test_x"),))
    contract_report.write(env, bad)
    assert contract_report.read(env, IMAGE) == bad, "a failure counts, whatever was asked for"


def test_one_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    env = {"GESSO_CACHE": str(tmp_path)}
    contract_report.write(env, report())
    (contract_report.folder(env, IMAGE) / contract_report.WHOLE).write_text("{")
    with pytest.raises(CheckError, match=r"no report of a test"):
        contract_report.read(env, IMAGE)


def test_the_contracts_digest_sees_every_change(tmp_path: Path) -> None:
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "a.py").write_text("x")
    first = contract_report.contract_of(tmp_path)
    (tmp_path / "checks" / "a.py").write_text("y")
    second = contract_report.contract_of(tmp_path)
    (tmp_path / "checks" / "a.py").rename(tmp_path / "checks" / "b.py")
    assert len({first, second, contract_report.contract_of(tmp_path)}) == 3
