"""The project's own tests: what runs in parallel, the printed output, and that an interrupt leaves nothing running."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from gesso.devtools import coverage_gate, own_tests, parallel
from gesso.devtools.parallel import Part, PartResult
from gesso.errors import CheckError
from tests.integration.test_proc import has_ended

if TYPE_CHECKING:
    from pathlib import Path


def shell(name: str, script: str, **env: str) -> Part:
    return Part(name, ("sh", "-c", script), env)


# --- parallel


def test_output_is_printed_part_after_part_in_the_given_order(tmp_path: Path) -> None:
    """The first ends only after the second has printed everything; their lines do not interleave."""
    flag = tmp_path / "flag"
    wait = f"n=0; while [ ! -e {flag} ]; do sleep 0.01; n=$((n+1)); [ $n -lt 900 ] || exit 9; done"
    lines: list[str] = []
    first, second = shell("first", f"echo a; {wait}; echo b"), shell("second", f"echo c; echo d >&2; touch {flag}")
    done = parallel.run([first, second], lines.append)
    assert [(each.name, each.ok) for each in done] == [("first", True), ("second", True)]
    assert [line for line in lines if not line.startswith("==")] == ["a", "b", "c", "d"]
    assert [line.partition(":")[0] for line in lines if line.startswith("==")] == [
        "== first", "== first", "== second", "== second",
    ]  # fmt: skip


def test_output_of_the_first_part_is_printed_at_once(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    wait = f"n=0; while [ ! -e {flag} ]; do sleep 0.01; n=$((n+1)); [ $n -lt 900 ] || exit 9; done"

    def on_line(line: str) -> None:
        if line == "a":
            flag.touch()

    assert parallel.run([shell("first", f"echo a; {wait}")], on_line)[0].ok


def test_a_failed_or_missing_program_stops_no_other() -> None:
    lines: list[str] = []
    parts = [shell("bad", "exit 3"), Part("gone", ("gesso-no-such",)), shell("good", "echo $MORE", MORE="yes")]
    done = parallel.run(parts, lines.append)
    assert [each.ok for each in done] == [False, False, True]
    assert "yes" in lines
    assert any("gesso-no-such: not found" in line for line in lines)


def test_an_interrupt_terminates_all_parts_and_their_children() -> None:
    """One of them has printed nothing yet, and is terminated all the same."""
    pids: list[int] = []

    def on_line(line: str) -> None:
        if line.isdigit():
            pids.append(int(line))
            if len(pids) == 2:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        parallel.run([shell("a", "echo $$; sleep 60 & echo $!; wait"), shell("b", "sleep 60")], on_line)
    assert [has_ended(pid) for pid in pids[:2]] == [True, True]


# --- the parts


def test_the_unit_tests_run_alone() -> None:
    found = own_tests.stages("python", 2, "/folder")
    assert ["unit tests"] in [[part.name for part in stage] for stage in found]
    assert [part.name for stage in found for part in stage] == [
        "ruff", "ruff format", "unit tests", "integration and fault tests", "mypy", "coverage", "check",
    ]  # fmt: skip
    workers = {part.name: each for stage in found for part in stage for each in part.command if each.startswith("-n")}
    assert workers == {"unit tests": "-n2", "integration and fault tests": "-n4"}
    assert {part.env["GESSO_COVERAGE"] for stage in found for part in stage} == {"/folder"}


def test_every_part_runs_and_is_in_the_table() -> None:
    lines: list[str] = []
    with pytest.raises(CheckError, match="failed: bad, worse"):
        own_tests.run(lines.append, ((shell("bad", "exit 1"),), (shell("good", "true"), shell("worse", "exit 1"))))
    rows = [line.split() for line in lines[-1].splitlines()]
    assert [(row[0], row[-1]) for row in rows] == [("bad", "FAILED"), ("good", "ok"), ("worse", "FAILED")]
    own_tests.run(lines.append, ((shell("good", "true"),),))


def test_the_table() -> None:
    text = own_tests.table([PartResult("unit tests", True, 29.04), PartResult("mypy", False, 100)])
    assert text == "unit tests     29.0 s  ok\nmypy          100.0 s  FAILED"


# --- coverage


def test_pure_modules_need_the_minimum() -> None:
    modules = {"gesso/a/x.py": 94.9, "gesso/a/y.py": 95.0, "gesso/b.py": 10.0}
    assert coverage_gate.shortfalls(modules, ["gesso/a/*"], 95) == [
        "gesso/a/x.py: 94.9 % covered; a pure module needs at least 95 %"
    ]
    assert coverage_gate.shortfalls(modules, ["gesso/a/y.py"], 95) == []
    assert coverage_gate.shortfalls(modules, ["gesso/c/*"], 95) == [
        "gesso/c/*: matches no measured module; correct tool.gesso.pure in pyproject.toml"
    ]


@pytest.mark.parametrize(("calls", "fails"), [("f(1); f(-1)", False), ("f(1)", True)])
def test_coverage_is_combined_printed_and_checked(
    tmp_path: Path, calls: str, fails: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real data files of two workers."""
    (tmp_path / "m.py").write_text("def f(x):\n    if x > 0:\n        return 1\n    return 2\n")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.coverage.run]\nbranch = true\ninclude = ["m.py"]\n[tool.gesso]\npure-percent = 95\npure = ["m.py"]\n'
    )
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        (tmp_path / "run.py").write_text(f"from m import f\n{calls}\n" if number else "from m import f\n")
        arguments = ["coverage", "run", f"--data-file=measured/.coverage.{number}", "run.py"]
        (tmp_path / "measured").mkdir(exist_ok=True)
        assert parallel.run([Part("", (sys.executable, "-m", *arguments))], print)[0].ok
    capsys.readouterr()
    if fails:
        with pytest.raises(CheckError, match=r"m\.py: [678]\d\.\d % covered; a pure module"):
            coverage_gate.run(tmp_path, tmp_path / "measured")
        return
    coverage_gate.run(tmp_path, tmp_path / "measured")
    assert "pure modules: 1, each at least 100.0 % covered" in capsys.readouterr().out


def test_without_data_the_check_fails(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.gesso]\npure-percent = 95\npure = ["m.py"]\n')
    (tmp_path / "measured").mkdir()
    with pytest.raises(CheckError, match="coverage combine: No data to combine"):
        coverage_gate.run(tmp_path, tmp_path / "measured")
