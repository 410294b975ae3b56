"""Git's tree ID of a folder, without git."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from gesso.manifest.git_tree import NOT_SOURCE, tree_id

if TYPE_CHECKING:
    from pathlib import Path


def test_the_id_of_a_folder_is_the_tree_id_of_git(tmp_path: Path) -> None:
    (tmp_path / "a-b").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "run.sh").write_text("x")
    (tmp_path / "a" / "run.sh").chmod(0o744)  # the owner's bit counts
    (tmp_path / "a" / "group.sh").touch()
    (tmp_path / "a" / "group.sh").chmod(0o655)
    (tmp_path / "a-b" / "ä.py").write_bytes(b"")
    (tmp_path / "a.py").write_text("y")
    (tmp_path / "link").symlink_to("a.py")
    for arguments in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)
    written = subprocess.run(["git", "-C", str(tmp_path), "write-tree"], check=True, capture_output=True, text=True)
    (tmp_path / "a" / "__pycache__").mkdir()
    (tmp_path / "a" / "__pycache__" / "x.pyc").write_text("bytecode is no change")
    (tmp_path / "ckpts").mkdir()
    (tmp_path / "ckpts" / "x").touch()
    (tmp_path / "a" / ".DS_Store").touch()
    ignored = NOT_SOURCE | {".DS_Store"}
    assert tree_id(tmp_path, frozenset({"ckpts"}), ignored.__contains__) == written.stdout.strip()
    assert tree_id(tmp_path, frozenset({"ckpts"})) != written.stdout.strip()


def test_names_at_the_top_are_excluded_only_there(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "ckpts").write_text("x")
    before = tree_id(tmp_path, frozenset({"ckpts"}))
    (tmp_path / "sub" / "ckpts").write_text("y")
    assert tree_id(tmp_path, frozenset({"ckpts"})) != before


def test_an_empty_folder_has_none_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert tree_id(tmp_path) is None
    with pytest.raises(FileNotFoundError):
        tree_id(tmp_path / "missing")
