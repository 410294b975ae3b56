"""Constraints for pip and uv: existing settings stay in effect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gesso.runtime.foreign import constraint
from gesso.runtime.foreign.constraint import Constraint, with_constraint, with_variables
from gesso.runtime.foreign.paths import ForeignLayout, Python

OURS = "/v/gesso-constraints.txt"
TEXTS = [
    "", "[global]\n", "[global]\nindex-url = https://x\n", "[install]\nuser = no\n", "[global]\nconstraint = /a.txt\n",
    "[global]\nconstraint =\n    /a.txt\n    /b.txt\ntimeout = 9\n", "# mine\n[global]", "[global]\nconstraint: /a.txt",
]  # fmt: skip


def _as_pip_reads_it(text: str, tmp_path: Path) -> dict[str, str]:
    config = tmp_path / "pip.conf"
    config.write_text(text)
    argv = [sys.executable, "-I", "-m", "pip", "config", "list"]
    done = subprocess.run(
        argv, env={"PIP_CONFIG_FILE": str(config), "HOME": "/nonexistent", "XDG_CONFIG_DIRS": "/nonexistent"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = (line.partition("=") for line in done.stdout.splitlines())
    return {name: value.strip("'") for name, _, value in rows}


@pytest.mark.parametrize("text", TEXTS)
def test_pip_reads_the_new_constraint_and_the_existing_settings(text: str, tmp_path: Path) -> None:
    before = _as_pip_reads_it(text, tmp_path)
    new = with_constraint(text, OURS)
    after = _as_pip_reads_it(new, tmp_path)
    named = after.pop("global.constraint").replace("\\n", " ").split()
    assert OURS in named
    assert {*before.pop("global.constraint", "").replace("\\n", " ").split()} <= {*named}
    assert after == before
    assert with_constraint(new, OURS) == new
    assert constraint.has_other_constraints(new, OURS) == ("/a.txt" in text)


def test_later_sessions_get_the_variables_except_those_a_user_set() -> None:
    plain = with_variables("A=1\n", OURS, for_pip=True)
    assert plain.startswith("A=1\n")
    assert f'PIP_CONSTRAINT="{OURS}"' in plain
    assert f'UV_CONSTRAINT="{OURS}"' in plain
    assert with_variables(plain, OURS, for_pip=True) == plain
    assert "PIP_CONSTRAINT" not in with_variables("", OURS, for_pip=False)
    set_by_others = 'export UV_CONSTRAINT=/x\nPIP_CONSTRAINT="/y"\n'
    assert with_variables(set_by_others, OURS, for_pip=True) == set_by_others


@pytest.mark.parametrize("venv", [True, False])
def test_the_files_are_written_once(tmp_path: Path, venv: bool) -> None:
    for name in ("venv", "etc"):
        (tmp_path / name).mkdir()
    python = Python(Path(), Path(), Path(), tmp_path / "venv", venv=venv, version="")
    files = Constraint(ForeignLayout(python=python), "2.0.58", tmp_path / "etc")
    where = tmp_path / ("venv" if venv else "etc")
    assert files.outdated() == [where / constraint.FILE, where / "pip.conf", tmp_path / "etc/environment"]
    files.write()
    assert files.outdated() == []
    assert (where / constraint.FILE).read_text().endswith("sqlalchemy==2.0.58\n")
    assert [path.name for path in where.iterdir() if path.name.startswith(".")] == []


def test_settings_with_a_password_keep_their_mode(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "etc").mkdir()
    settings = tmp_path / "venv/pip.conf"
    settings.write_text("[global]\nindex-url = https://me:secret@x\n")
    settings.chmod(0o600)
    python = Python(Path(), Path(), Path(), tmp_path / "venv", venv=True, version="")
    Constraint(ForeignLayout(python=python), "2.0.58", tmp_path / "etc").write()
    assert "me:secret@x" in settings.read_text()
    assert settings.stat().st_mode & 0o777 == 0o600


def test_files_that_cannot_be_written_are_not_outdated(tmp_path: Path) -> None:
    python = Python(Path(), Path(), Path(), tmp_path / "gone", venv=True, version="")
    assert Constraint(ForeignLayout(python=python), "2.0.58", tmp_path / "etc").outdated() == []
