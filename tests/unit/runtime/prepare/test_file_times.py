"""The fingerprint of files changes with every touch, also with one that sets size and times back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gesso.runtime.prepare import file_times

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pack"
    (made / "js").mkdir(parents=True)
    (made / "nodes.py").write_text("a = 1\n")
    (made / "js/web.js").write_text("let a;\n")
    return made


def _write_back(folder: Path) -> None:
    """Write other bytes of the same size, and set the times back."""
    path = folder / "nodes.py"
    status = path.stat()
    path.write_text("a = 2\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _replace(folder: Path) -> None:
    path = folder / "nodes.py"
    status = path.stat()
    new = folder.parent / "new"
    new.write_text("a = 2\n")
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "written, and the times set back": _write_back,
    "replaced": _replace,
    "another mode": lambda f: (f / "nodes.py").chmod(0o600),
    "deleted": lambda f: (f / "nodes.py").unlink(),
    "added below": lambda f: (f / "js/more.js").touch(),
    "renamed": lambda f: (f / "js/web.js").rename(f / "js/wep.js"),
    "a link added": lambda f: (f / "link").symlink_to("nowhere"),
    "written below": lambda f: (f / "js/web.js").write_text("let b;\n"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_touch_is_seen(folder: Path, change: Callable[[Path], object]) -> None:
    before = file_times.of([folder])
    assert file_times.of([folder]) == before
    change(folder)
    assert file_times.of([folder]) != before


@pytest.mark.parametrize("name", ["__pycache__", ".git"])
def test_what_python_and_git_write_does_not_count(folder: Path, name: str) -> None:
    (folder / name).mkdir()
    before = file_times.of([folder])
    (folder / name / "nodes.pyc").touch()
    assert file_times.of([folder]) == before


def test_a_missing_path_is_part_of_it(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    fingerprints = {file_times.of([]), file_times.of(paths), file_times.of(paths[:1])}
    (tmp_path / "b").touch()
    fingerprints.add(file_times.of(paths))
    (tmp_path / "b").unlink()
    assert len(fingerprints) == 4
    assert file_times.of(paths) in fingerprints


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    before = file_times.of([tmp_path / "link"])
    (folder / "nodes.py").write_text("a = 3\n")
    assert file_times.of([tmp_path / "link"]) == before


def test_a_name_that_is_not_text(folder: Path) -> None:
    (folder / os.fsdecode(b"\xff.py")).touch()
    assert file_times.of([folder]) == file_times.of([folder])


def test_a_folder_that_cannot_be_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        unlisted = file_times.of([folder])
    assert unlisted != file_times.of([folder])
