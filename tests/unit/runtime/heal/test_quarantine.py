"""The quarantine stays within a limit: the oldest entries are removed first, the newest stays."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gesso.runtime.heal import quarantine

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.runtime.layout import Layout


def _file(path: Path, size: int, age: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    for each in (path, path.parent):
        os.utime(each, (1_000_000_000 - age, 1_000_000_000 - age))
    return path


def test_the_oldest_is_removed_first_in_both_folders(layout: Layout) -> None:
    old = _file(quarantine.folder(layout, "a") / "nodes.py", 400, 30)
    graph = _file(layout.state / "replaced" / "gold-1.json", 400, 20)
    os.utime(quarantine.folder(layout, "a"), (1_000_000_000 - 30, 1_000_000_000 - 30))
    new = _file(quarantine.folder(layout, "b") / "x/nodes.py", 400, 10)
    os.utime(quarantine.folder(layout, "b"), (1_000_000_000 - 10, 1_000_000_000 - 10))
    quarantine.trim(layout, 1200)
    assert old.exists()
    quarantine.trim(layout, 1100)
    assert not old.parent.exists()
    assert graph.exists()
    quarantine.trim(layout, 500)
    assert not graph.exists()
    assert new.exists()


def test_the_newest_stays_whatever_its_size(layout: Layout) -> None:
    new = _file(quarantine.folder(layout, "b") / "nodes.py", 4000, 10)
    quarantine.trim(layout, 100)
    assert new.exists()


def test_a_link_is_removed_and_its_target_stays(layout: Layout, tmp_path: Path) -> None:
    mine = _file(tmp_path / "mine/file", 4000, 90)
    (layout.state / "replaced").mkdir(parents=True)
    (layout.state / "replaced/link").symlink_to(mine.parent)
    os.utime(layout.state / "replaced/link", (1, 1), follow_symlinks=False)
    _file(quarantine.folder(layout, "b") / "nodes.py", 400, 10)
    quarantine.trim(layout, 10)
    assert not (layout.state / "replaced/link").is_symlink()
    assert mine.exists()


def test_an_empty_quarantine(layout: Layout) -> None:
    quarantine.trim(layout)
