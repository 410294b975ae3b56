"""gesso's own locks: when they are stale, and what a new one goes on from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gesso.builder.lock import own_python
from gesso.errors import LockError
from gesso.settings import Project

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[4]
UV = r"""
while [ "$1" != --output-file ]; do shift; done
[ -f "$2" ] && cp "$2" "$LOG/known"
cp requirements.in "$LOG/requirements.in"
printf 'new==1 \\\n    --hash=sha256:%064d\n' 0 >"$2"
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    shutil.copytree(ROOT / "manifests/locks", tmp_path / "project/manifests/locks")
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "project")
    return Project(tmp_path / "project")


@pytest.fixture
def log(program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A uv that keeps what it was given; gives the folder of it."""
    monkeypatch.setattr(own_python, "UV_COMPILE", ("gesso-uv",))
    return program("gesso-uv", UV)


def _ask_for_more(project: Project) -> None:
    path = project.root / "pyproject.toml"
    path.write_text(path.read_text().replace('"uvicorn>=0.40,<1",', '"uvicorn>=0.40,<1", "six",'))


def test_the_projects_own_are_current(project: Project) -> None:
    assert own_python.stale(project) == []
    assert own_python.make(project) == {}


def test_what_asks_for_more_makes_stale_what_it_is_in(project: Project, log: Path) -> None:
    _ask_for_more(project)
    assert own_python.stale(project) == ["gesso", "builder"]
    made = own_python.make(project)
    assert [path.name for path in made] == ["gesso.lock.txt", "builder.lock.txt"]
    assert all(text.splitlines()[1].startswith("new==1") for text in made.values())
    assert (log / "known").read_text() == (project.locks / "builder.lock.txt").read_text()  # what fits stays
    assert "six" in (log / "requirements.in").read_text().splitlines()
    for path, text in made.items():
        path.write_text(text)
    assert own_python.stale(project) == []


def test_upgrade_makes_all_anew_from_nothing(project: Project, log: Path) -> None:
    assert len(own_python.make(project, upgrade=True)) == 3
    assert not (log / "known").exists()


@pytest.mark.parametrize("damage", [b"<<<<<<< ours\n=======\n>>>>>>> theirs\n", b"\xff\xfe", b""])
def test_one_that_cannot_be_read_is_made_anew(project: Project, log: Path, damage: bytes) -> None:
    path = project.locks / "builder.lock.txt"
    path.write_bytes(damage + (path.read_bytes() if damage else b""))
    assert own_python.stale(project) == ["builder"]
    assert list(own_python.make(project)) == [path]
    assert not (log / "known").exists()


def test_a_resolution_that_fails_says_which(project: Project, program: Callable[[str, str], Path]) -> None:
    _ask_for_more(project)
    program("gesso-uv", "echo 'no such package: six' >&2; exit 1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_python, "UV_COMPILE", ("gesso-uv",))
        with pytest.raises(LockError, match=r"gesso\.lock\.txt: .*no such package"):
            own_python.make(project)
