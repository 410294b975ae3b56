"""The project's own tests: what runs beside what, what is told of it, and what an interrupt leaves behind: nothing."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from gesso.devtools import coverage_gate, own_tests, parallel
from gesso.devtools.parallel import Done, Part
from gesso.errors import CheckError
from tests.integration.test_proc import _gone

if TYPE_CHECKING:
    from pathlib import Path


def shell(name: str, script: str, **env: str) -> Part:
    return Part(name, ("sh", "-c", script), env)


# --- side by side


def test_each_is_told_in_one_piece_in_the_order_given(tmp_path: Path) -> None:
    """The first ends only when the second has said all; neither comes in between the other's lines."""
    flag = tmp_path / "flag"
    wait = f"n=0; while [ ! -e {flag} ]; do sleep 0.01; n=$((n+1)); [ $n -lt 900 ] || exit 9; done"
    said: list[str] = []
    first, second = shell("first", f"echo a; {wait}; echo b"), shell("second", f"echo c; echo d >&2; touch {flag}")
    done = parallel.run([first, second], said.append)
    assert [(each.name, each.ok) for each in done] == [("first", True), ("second", True)]
    assert [line for line in said if not line.startswith("==")] == ["a", "b", "c", "d"]
    assert [line.partition(":")[0] for line in said if line.startswith("==")] == [
        "== first", "== first", "== second", "== second",
    ]  # fmt: skip


def test_the_first_is_told_as_it_comes(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    wait = f"n=0; while [ ! -e {flag} ]; do sleep 0.01; n=$((n+1)); [ $n -lt 900 ] || exit 9; done"

    def tell(line: str) -> None:
        if line == "a":
            flag.touch()

    assert parallel.run([shell("first", f"echo a; {wait}")], tell)[0].ok


def test_one_that_fails_or_is_not_there_keeps_no_other_from_running() -> None:
    said: list[str] = []
    parts = [shell("bad", "exit 3"), Part("gone", ("gesso-no-such",)), shell("good", "echo $MORE", MORE="yes")]
    done = parallel.run(parts, said.append)
    assert [each.ok for each in done] == [False, False, True]
    assert "yes" in said
    assert any("gesso-no-such: not found" in line for line in said)


def test_an_interrupt_ends_all_of_them_and_their_children() -> None:
    """One of them has said nothing yet: nobody reads from it, and still it goes."""
    pids: list[int] = []

    def tell(line: str) -> None:
        if line.isdigit():
            pids.append(int(line))
            if len(pids) == 2:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        parallel.run([shell("a", "echo $$; sleep 60 & echo $!; wait"), shell("b", "sleep 60")], tell)
    assert [_gone(pid) for pid in pids[:2]] == [True, True]


# --- the parts


def test_the_unit_tests_have_the_machine_to_themselves() -> None:
    found = own_tests.stages("python", 2, "/folder")
    assert ["unit tests"] in [[part.name for part in stage] for stage in found]
    assert [part.name for stage in found for part in stage] == [
        "ruff", "ruff format", "unit tests", "rim and fault tests", "mypy", "coverage", "check",
    ]  # fmt: skip
    workers = {part.name: word for stage in found for part in stage for word in part.command if word.startswith("-n")}
    assert workers == {"unit tests": "-n2", "rim and fault tests": "-n4"}
    assert {part.env["GESSO_COVERAGE"] for stage in found for part in stage} == {"/folder"}


def test_every_part_runs_and_the_table_tells() -> None:
    said: list[str] = []
    with pytest.raises(CheckError, match="failed: bad, worse"):
        own_tests.run(said.append, ((shell("bad", "exit 1"),), (shell("good", "true"), shell("worse", "exit 1"))))
    rows = [line.split() for line in said[-1].splitlines()]
    assert [(row[0], row[-1]) for row in rows] == [("bad", "FAILED"), ("good", "ok"), ("worse", "FAILED")]
    own_tests.run(said.append, ((shell("good", "true"),),))


def test_the_table() -> None:
    text = own_tests.table([Done("unit tests", True, 29.04), Done("mypy", False, 100)])
    assert text == "unit tests     29.0 s  ok\nmypy          100.0 s  FAILED"


# --- coverage


def test_the_pure_rooms_are_held_to_what_is_demanded() -> None:
    modules = {"gesso/a/x.py": 94.9, "gesso/a/y.py": 95.0, "gesso/b.py": 10.0}
    assert coverage_gate.below(modules, ["gesso/a/*"], 95) == [
        "gesso/a/x.py: 94.9 % of a pure module is covered; at least 95 % must be"
    ]
    assert coverage_gate.below(modules, ["gesso/a/y.py"], 95) == []
    assert coverage_gate.below(modules, ["gesso/c/*"], 95) == [
        "gesso/c/*: no such module was measured; name what there is in pyproject.toml"
    ]


@pytest.mark.parametrize(("calls", "fails"), [("f(1); f(-1)", False), ("f(1)", True)])
def test_what_is_measured_is_put_together_shown_and_judged(
    tmp_path: Path, calls: str, fails: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real files of `coverage`, of two workers."""
    (tmp_path / "m.py").write_text("def f(x):\n    if x > 0:\n        return 1\n    return 2\n")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.coverage.run]\nbranch = true\ninclude = ["m.py"]\n[tool.gesso]\npure-percent = 95\npure = ["m.py"]\n'
    )
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        (tmp_path / "run.py").write_text(f"from m import f\n{calls}\n" if number else "from m import f\n")
        words = ["coverage", "run", f"--data-file=measured/.coverage.{number}", "run.py"]
        (tmp_path / "measured").mkdir(exist_ok=True)
        assert parallel.run([Part("", (sys.executable, "-m", *words))], print)[0].ok
    capsys.readouterr()
    if fails:
        with pytest.raises(CheckError, match=r"m\.py: [678]\d\.\d % of a pure module is covered"):
            coverage_gate.show(tmp_path, tmp_path / "measured")
        return
    coverage_gate.show(tmp_path, tmp_path / "measured")
    assert "pure rooms: 1 modules, each at least 100.0 % covered" in capsys.readouterr().out


def test_nothing_measured_is_no_pass(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.gesso]\npure-percent = 95\npure = ["m.py"]\n')
    (tmp_path / "measured").mkdir()
    with pytest.raises(CheckError, match="coverage combine: No data to combine"):
        coverage_gate.show(tmp_path, tmp_path / "measured")
