"""The workspace: laid out repeatedly, on any volume, without losing a person's files."""

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
    """Lay out the workspace and return the messages."""
    (layout.gesso / "workflows").mkdir()
    for name, content in GRAPHS.items():
        (layout.gesso / "workflows" / name).write_bytes(content)
    made = record(workflows={name: hashlib.sha256(content).hexdigest() for name, content in GRAPHS.items()})

    def run() -> list[str]:
        messages: list[str] = []
        workspace.lay_out(layout, made, messages.append)
        return messages

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


def test_a_second_run_changes_nothing(layout: Layout, lay_out: Callable[[], list[str]]) -> None:
    lay_out()
    before = _state(layout.workspace)
    assert lay_out() == []
    assert _state(layout.workspace) == before


def test_a_changed_workflow_is_backed_up(layout: Layout, lay_out: Callable[[], list[str]]) -> None:
    lay_out()
    mine = layout.user / "default/workflows/gold.json"
    mine.write_bytes(b'{"mine": 1}')
    other = layout.user / "default/workflows/my own.json"
    other.write_bytes(b"{}")
    (message,) = lay_out()
    (backup,) = (layout.state / "replaced").iterdir()
    assert backup.read_bytes() == b'{"mine": 1}'
    assert backup.name.startswith("gold-")
    assert backup.suffix == ".json"
    assert str(backup) in message
    assert str(mine) in message
    assert mine.read_bytes() == GRAPHS["gold.json"]
    assert other.read_bytes() == b"{}"


def test_two_changed_in_the_same_second_are_both_backed_up(
    layout: Layout, lay_out: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda *_: "20260101-000000")
    lay_out()
    for round_ in (b"1", b"2"):
        (layout.user / "default/workflows/gold.json").write_bytes(b"editor's " + round_)
        (layout.workspace / "ComfyUI/workflows/gold.json").write_bytes(b"folder's " + round_)
        assert len(lay_out()) == 2
    backups = {path.read_bytes() for path in (layout.state / "replaced").iterdir()}
    assert backups == {b"editor's 1", b"folder's 1", b"editor's 2", b"folder's 2"}
    assert _placed(layout) == EXPECTED


def test_anything_in_the_place_of_a_workflow_is_backed_up(layout: Layout, lay_out: Callable[[], list[str]]) -> None:
    folder = layout.user / "default/workflows/gold.json"
    folder.mkdir(parents=True)
    (folder / "inside").write_text("x")
    dangling = layout.workspace / "ComfyUI/workflows/gold.json"
    dangling.parent.mkdir(parents=True)
    dangling.symlink_to("nowhere")
    assert len(lay_out()) == 2
    assert _placed(layout) == EXPECTED
    backups = list((layout.state / "replaced").iterdir())
    assert any((path / "inside").is_file() for path in backups)
    assert any(path.is_symlink() for path in backups)


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
    """Make `below` refuse new folders (file modes do not stop root)."""
    real = Path.mkdir

    def mkdir(self: Path, *args: Any, **kwargs: Any) -> None:
        if self.is_relative_to(below) and not self.exists():
            raise OSError(number, os.strerror(number), str(self))
        real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", mkdir)


def test_a_read_only_models_folder_is_accepted(
    layout: Layout, lay_out: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (layout.models / "checkpoints").mkdir(parents=True)
    _refuse(monkeypatch, layout.models, errno.EROFS)
    messages = lay_out()
    assert all(line.startswith(f"workspace: {layout.models}/") for line in messages)
    assert all(line.endswith("Read-only file system") for line in messages)
    assert not [line for line in messages if "checkpoints" in line]
    assert len(messages) > 5
    assert _placed(layout) == EXPECTED


def _link_to_nothing(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        path.rmdir()
    path.symlink_to("/nas/of/somebody")


@pytest.mark.parametrize("link", ["input", "user", "ComfyUI", "user/default/workflows"])
def test_without_one_of_its_folders_nothing_starts(layout: Layout, lay_out: Callable[[], list[str]], link: str) -> None:
    path = layout.workspace / link
    _link_to_nothing(path)
    with pytest.raises(CheckError) as raised:
        lay_out()
    assert raised.value.message == f"{path} leads to /nas/of/somebody, which does not exist"
    assert raised.value.next_step == "mount /nas/of/somebody, or remove the link, then restart"


@pytest.mark.parametrize("link", ["models", "models/vae"])
def test_without_its_models_it_starts_and_names_the_disk(
    layout: Layout, lay_out: Callable[[], list[str]], link: str
) -> None:
    """The page and `gesso status` then show why models cannot be fetched; a container that ends shows nothing."""
    path = layout.workspace / link
    _link_to_nothing(path)
    reported = lay_out()
    assert (
        f"workspace: {layout.models / 'vae'} not created: {path} leads to /nas/of/somebody, which does not exist"
        in reported
    )
    assert _placed(layout) == EXPECTED


def test_a_link_to_a_disk_that_is_mounted(layout: Layout, lay_out: Callable[[], list[str]], tmp_path: Path) -> None:
    (tmp_path / "nas").mkdir()
    layout.models.parent.mkdir(parents=True, exist_ok=True)
    layout.models.symlink_to(tmp_path / "nas")
    assert lay_out() == []
    assert (tmp_path / "nas/vae").is_dir()


@pytest.mark.parametrize(
    ("number", "why", "step"),
    [
        (errno.EACCES, r"user \d+ may not write there \(Permission denied\)", "fsGroup"),
        (errno.EPERM, r"user \d+ may not write there", "--user"),
        (errno.EROFS, "Read-only file system", "--tmpfs"),
        (errno.ENOSPC, "No space left", "free space"),
    ],
)
def test_a_workspace_that_cannot_be_written(
    layout: Layout, lay_out: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, number: int, why: str, step: str
) -> None:
    """The error names the folder, the user, and what to change about the start of the container."""
    _refuse(monkeypatch, layout.workspace, number)
    with pytest.raises(CheckError, match=rf"{layout.workspace}/input: {why}") as raised:
        lay_out()
    assert step in raised.value.next_step
    assert str(layout.workspace) in raised.value.next_step
    assert raised.value.exit_code == 1


@pytest.mark.parametrize("name", ["gesso", "gesso/token", "user", "user/default/workflows"])
def test_what_another_user_left_is_named(
    layout: Layout, lay_out: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lay_out()
    (layout.state / "token").touch()
    theirs = layout.workspace / name
    monkeypatch.setattr("os.access", lambda path, _: path != theirs)
    with pytest.raises(CheckError, match=f"{theirs}: user"):
        lay_out()


@pytest.mark.parametrize("name", ["input", "output"])
def test_a_read_only_folder_of_pictures_is_only_a_note(
    layout: Layout, lay_out: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("os.access", lambda path, _: path != layout.workspace / name)
    (message,) = lay_out()
    assert f"{layout.workspace / name}: user" in message


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
    (message,) = lay_out()
    assert "gesso heal" in message
    assert mine.read_bytes() == b'{"mine": 1}'
    assert not (layout.state / "replaced").exists()


def test_an_image_without_its_workflows(layout: Layout, lay_out: Callable[[], list[str]]) -> None:
    shutil.rmtree(layout.gesso / "workflows")
    with pytest.raises(CheckError, match=r"workflows/gold.*No such file"):
        lay_out()
