"""The workspace: laid out any number of times, on any volume, and nothing of a person's is ever lost."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.manifest.folders import FOLDERS
from gesso.runtime.prepare import workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.runtime.layout import Layout, Record

GRAPHS = {"gold.json": b'{"nodes": []}', "gold.api.json": b'{"1": {}}'}


@pytest.fixture
def lay_out(layout: Layout, record: Callable[..., Record]) -> Callable[[], list[str]]:
    """Lay the workspace out and give what was said."""
    (layout.gesso / "workflows").mkdir()
    for name, content in GRAPHS.items():
        (layout.gesso / "workflows" / name).write_bytes(content)
    made = record(workflows={name: hashlib.sha256(content).hexdigest() for name, content in GRAPHS.items()})

    def run() -> list[str]:
        said: list[str] = []
        workspace.lay_out(layout, made, said.append)
        return said

    return run


def _placed(layout: Layout) -> dict[str, bytes]:
    return {
        str(path.relative_to(layout.workspace)): path.read_bytes()
        for folder in (layout.workspace / "ComfyUI/workflows", layout.user / "default/workflows")
        for path in sorted(folder.iterdir())
    }


EXPECTED = {
    "ComfyUI/workflows/gold.json": GRAPHS["gold.json"],
    "ComfyUI/workflows/gold.api.json": GRAPHS["gold.api.json"],
    "user/default/workflows/gold.json": GRAPHS["gold.json"],
}


def test_an_empty_volume(layout: Layout, lay_out: Callable[[], list[str]]) -> None:
    assert lay_out() == []
    assert _placed(layout) == EXPECTED
    for names in FOLDERS.values():
        for name in names:
            assert (layout.models / name).is_dir()
    for name in ("input", "output", "gesso"):
        assert (layout.workspace / name).is_dir()
    home = layout.workspace / "ComfyUI"
    assert {p.name: p.resolve() for p in home.iterdir() if p.is_symlink()} == {
        "models": layout.models.resolve(),
        "user": layout.user.resolve(),
        "input": (layout.workspace / "input").resolve(),
        "output": (layout.workspace / "output").resolve(),
        "custom_nodes": (layout.comfyui / "custom_nodes").resolve(),
    }
    assert (home / "workflows/gold.json").stat().st_mode & 0o777 == 0o644


def _state(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.lstat().st_mtime_ns, p.lstat().st_ino) for p in [folder, *folder.rglob("*")]}


def test_a_second_time_changes_nothing(layout: Layout, lay_out: Callable[[], list[str]]) -> None:
    lay_out()
    before = _state(layout.workspace)
    assert lay_out() == []
    assert _state(layout.workspace) == before


def test_a_changed_workflow_is_kept_aside(layout: Layout, lay_out: Callable[[], list[str]]) -> None:
    lay_out()
    mine = layout.user / "default/workflows/gold.json"
    mine.write_bytes(b'{"mine": 1}')
    other = layout.user / "default/workflows/my own.json"
    other.write_bytes(b"{}")
    (said,) = lay_out()
    (kept,) = (layout.state / "replaced").iterdir()
    assert kept.read_bytes() == b'{"mine": 1}'
    assert kept.name.startswith("gold-")
    assert kept.suffix == ".json"
    assert str(kept) in said
    assert str(mine) in said
    assert mine.read_bytes() == GRAPHS["gold.json"]
    assert other.read_bytes() == b"{}"


def test_two_changed_in_the_same_second_are_both_kept(
    layout: Layout, lay_out: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda *_: "20260101-000000")
    lay_out()
    for round_ in (b"1", b"2"):
        (layout.user / "default/workflows/gold.json").write_bytes(b"editor's " + round_)
        (layout.workspace / "ComfyUI/workflows/gold.json").write_bytes(b"folder's " + round_)
        assert len(lay_out()) == 2
    kept = {path.read_bytes() for path in (layout.state / "replaced").iterdir()}
    assert kept == {b"editor's 1", b"folder's 1", b"editor's 2", b"folder's 2"}
    assert _placed(layout) == EXPECTED


def test_whatever_is_in_the_place_of_a_workflow_is_kept(layout: Layout, lay_out: Callable[[], list[str]]) -> None:
    folder = layout.user / "default/workflows/gold.json"
    folder.mkdir(parents=True)
    (folder / "inside").write_text("x")
    dangling = layout.workspace / "ComfyUI/workflows/gold.json"
    dangling.parent.mkdir(parents=True)
    dangling.symlink_to("nowhere")
    assert len(lay_out()) == 2
    assert _placed(layout) == EXPECTED
    kept = list((layout.state / "replaced").iterdir())
    assert any((path / "inside").is_file() for path in kept)
    assert any(path.is_symlink() for path in kept)


def test_a_deleted_workflow_comes_back(layout: Layout, lay_out: Callable[[], list[str]]) -> None:
    lay_out()
    (layout.user / "default/workflows/gold.json").unlink()
    assert lay_out() == []
    assert _placed(layout) == EXPECTED


def test_folders_and_links_of_a_person_stay(layout: Layout, lay_out: Callable[[], list[str]], tmp_path: Path) -> None:
    home = layout.workspace / "ComfyUI"
    (home / "models" / "checkpoints").mkdir(parents=True)
    (home / "models" / "checkpoints" / "mine.safetensors").write_text("x")
    (home / "input").symlink_to(tmp_path)
    (home / "output").symlink_to("nowhere")
    (home / "user").write_text("a file")
    lay_out()
    assert (home / "models" / "checkpoints" / "mine.safetensors").read_text() == "x"
    assert not (home / "models").is_symlink()
    assert (home / "input").readlink() == tmp_path
    assert (home / "output").readlink() == Path("nowhere")
    assert (home / "user").read_text() == "a file"
    assert (home / "custom_nodes").is_symlink()


def _refuse(monkeypatch: pytest.MonkeyPatch, below: Path, number: int) -> None:
    """Make `below` refuse new folders (root may do everything, so modes would not)."""
    real = Path.mkdir

    def mkdir(self: Path, *words: Any, **more: Any) -> None:
        if self.is_relative_to(below) and not self.exists():
            raise OSError(number, os.strerror(number), str(self))
        real(self, *words, **more)

    monkeypatch.setattr(Path, "mkdir", mkdir)


def test_a_read_only_models_folder_is_all_right(
    layout: Layout, lay_out: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (layout.models / "checkpoints").mkdir(parents=True)
    _refuse(monkeypatch, layout.models, errno.EROFS)
    said = lay_out()
    assert all(line.startswith(f"workspace: {layout.models}/") for line in said)
    assert all(line.endswith("Read-only file system") for line in said)
    assert not [line for line in said if "checkpoints" in line]
    assert len(said) > 5
    assert _placed(layout) == EXPECTED


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_workspace_that_cannot_be_written(
    layout: Layout, lay_out: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    _refuse(monkeypatch, layout.workspace, number)
    with pytest.raises(CheckError) as raised:
        lay_out()
    assert raised.value.message == f"{layout.workspace}/input: {os.strerror(number)}"
    assert raised.value.next_step == f"give {layout.workspace} a writable volume with room, then start again"
    assert raised.value.exit_code == 1


def test_a_full_disk_leaves_no_half_workflow(
    layout: Layout, lay_out: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckError, match="No space left on device"):
        lay_out()
    assert _placed(layout) == {}  # no temporary file either


def test_a_damaged_copy_in_the_image_replaces_nothing(layout: Layout, lay_out: Callable[[], list[str]]) -> None:
    lay_out()
    (layout.gesso / "workflows/gold.json").write_bytes(b"damaged")
    mine = layout.user / "default/workflows/gold.json"
    mine.write_bytes(b'{"mine": 1}')
    (said,) = lay_out()
    assert "gesso heal" in said
    assert mine.read_bytes() == b'{"mine": 1}'
    assert not (layout.state / "replaced").exists()


def test_an_image_that_lost_a_workflow(layout: Layout, lay_out: Callable[[], list[str]]) -> None:
    shutil.rmtree(layout.gesso / "workflows")
    with pytest.raises(CheckError, match=r"workflows/gold.*No such file"):
        lay_out()
