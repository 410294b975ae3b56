"""gesso's own locks: when they are stale, and which pins a new one keeps."""

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
[ -f "$2" ] && cp "$2" "$LOG/existing"
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
    """Replace uv by a program that records its input; return the folder of the records."""
    monkeypatch.setattr(own_python, "UV_COMPILE", ("gesso-uv",))
    return program("gesso-uv", UV)


def _add_requirement(project: Project) -> None:
    path = project.root / "pyproject.toml"
    path.write_text(path.read_text().replace('"uvicorn>=0.40,<1",', '"uvicorn>=0.40,<1", "six",'))


def test_the_projects_own_locks_are_current(project: Project) -> None:
    assert own_python.stale(project) == []
    assert own_python.make(project) == {}


def test_a_new_requirement_makes_its_locks_stale(project: Project, log: Path) -> None:
    _add_requirement(project)
    assert own_python.stale(project) == ["gesso", "builder"]
    made = own_python.make(project)
    assert [path.name for path in made] == ["gesso.lock.txt", "builder.lock.txt"]
    assert all(text.splitlines()[1].startswith("new==1") for text in made.values())
    assert (log / "existing").read_text() == (project.locks / "builder.lock.txt").read_text()  # existing pins
    assert "six" in (log / "requirements.in").read_text().splitlines()
    for path, text in made.items():
        path.write_text(text)
    assert own_python.stale(project) == []


def test_upgrade_resolves_every_lock_without_existing_pins(project: Project, log: Path) -> None:
    assert len(own_python.make(project, upgrade=True)) == 3
    assert not (log / "existing").exists()


@pytest.mark.parametrize("damage", [b"<<<<<<< ours\n=======\n>>>>>>> theirs\n", b"\xff\xfe", b""])
def test_an_unreadable_lock_is_resolved_without_existing_pins(project: Project, log: Path, damage: bytes) -> None:
    path = project.locks / "builder.lock.txt"
    path.write_bytes(damage + (path.read_bytes() if damage else b""))
    assert own_python.stale(project) == ["builder"]
    assert list(own_python.make(project)) == [path]
    assert not (log / "existing").exists()


def test_a_failed_resolution_names_the_lock(project: Project, program: Callable[[str, str], Path]) -> None:
    _add_requirement(project)
    program("gesso-uv", "echo 'no such package: six' >&2; exit 1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_python, "UV_COMPILE", ("gesso-uv",))
        with pytest.raises(LockError, match=r"gesso\.lock\.txt: .*no such package"):
            own_python.make(project)
