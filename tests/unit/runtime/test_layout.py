"""The paths of an instance, and the record of its image: read completely, or rejected with the reason."""

from __future__ import annotations

import fcntl
import json
import os
from typing import TYPE_CHECKING, BinaryIO

import pytest

from gesso.errors import CheckError
from gesso.runtime.layout import Layout, Spare, find_layout, models_folder, read_record

if TYPE_CHECKING:
    from pathlib import Path

RAW = {
    "arch": "sdxl", "title": "x", "trial": False, "classes": ["A"], "python": {"pins": {"sqlalchemy": "2.0.58"}},
    "workflows": {"a.json": "00"}, "more": 1,
}  # fmt: skip


def test_a_record(layout: Layout) -> None:
    (layout.gesso / "build.json").write_text(json.dumps(RAW))
    record = read_record(layout)
    assert (record.arch, record.classes, record.pins) == ("sdxl", ("A",), {"sqlalchemy": "2.0.58"})
    assert record.raw == RAW
    assert record.spares == ()
    assert record.workflow_titles == {}


def test_the_titles_of_workflows(layout: Layout) -> None:
    (layout.gesso / "build.json").write_text(json.dumps({**RAW, "workflow_titles": {"a": "1 Paint"}}))
    assert read_record(layout).workflow_titles == {"a": "1 Paint"}


def test_the_spares(layout: Layout) -> None:
    spares = {
        "ComfyUI": {"sha256": "00", "target": "/opt/ComfyUI"},
        "gesso": {"sha256": "11", "target": "/", "loose": True},
    }
    (layout.gesso / "build.json").write_text(json.dumps({**RAW, "spares": spares}))
    assert read_record(layout).spares == (Spare("ComfyUI", "00", "/opt/ComfyUI"), Spare("gesso", "11", "/", loose=True))


@pytest.mark.parametrize(
    ("path", "folder", "below"),
    [
        ("/opt/ComfyUI", "comfyui", ""),
        ("/opt/ComfyUI/custom_nodes/a/b.py", "comfyui", "custom_nodes/a/b.py"),
        ("/opt/ComfyUI2/b.py", "root/opt/ComfyUI2", "b.py"),
        ("/opt/gesso/constraints.txt", "gesso", "constraints.txt"),
        ("/usr/local/bin/entrypoint.sh", "root/usr/local/bin", "entrypoint.sh"),
        ("/x", "root", "x"),
    ],
)
def test_a_path_of_the_image_is_located(layout: Layout, path: str, folder: str, below: str) -> None:
    assert layout.locate(path) == (layout.root.parent / folder, below)


def test_a_read_only_models_folder(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models_folder(layout).state == layout.models / ".gesso"
    layout.models.mkdir()
    monkeypatch.setattr("os.access", lambda *_: False)
    assert models_folder(layout).state == layout.state / "models"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{}",
        '{"arch": "sdxl"}',
        json.dumps({**RAW, "python": None}),
        json.dumps({**RAW, "spares": {"a": {}}}),
        json.dumps({**RAW, "spares": []}),
    ],
)
def test_an_invalid_record_is_rejected(layout: Layout, text: str | None) -> None:
    if text is not None:
        (layout.gesso / "build.json").write_text(text)
    with pytest.raises(CheckError, match=r"build\.json: ") as raised:
        read_record(layout)
    assert raised.value.next_step == "run this inside a gesso image"


# --- where the instance runs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("run", "var/log", "dev/shm"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def _read_only(folder: Path) -> None:
    """Let nobody create a folder here, also not root, who runs these tests in a container."""
    if folder.is_dir():
        folder.rmdir()
    folder.write_text("")


def _held(folder: Path) -> BinaryIO:
    folder.mkdir(mode=0o755, exist_ok=True)
    file = (folder / "boot.lock").open("wb")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def test_the_usual_folders(root: Path) -> None:
    found = find_layout(root)
    assert (found.run, found.logs) == (root / "run/gesso", root / "var/log/gesso")
    assert found.workspace == Layout().workspace


def test_a_read_only_root(root: Path) -> None:
    _read_only(root / "run")
    (root / "var/log").rmdir()
    _read_only(root / "var/log")
    found = find_layout(root, 1000)
    assert (found.run, found.logs) == (root / "dev/shm/gesso-1000", root / "dev/shm/gesso-1000/log")


def test_logs_stay_where_the_boot_put_them(root: Path) -> None:
    """Root could write to /var/log/gesso, where the user of the supervisor could not."""
    (root / "run/gesso/log").mkdir(parents=True)
    assert find_layout(root).logs == root / "run/gesso/log"


def test_a_live_supervisor_comes_first(root: Path) -> None:
    user = os.geteuid()
    with _held(root / f"dev/shm/gesso-{user}"):
        assert find_layout(root).run == root / f"dev/shm/gesso-{user}"
    assert find_layout(root).run == root / "run/gesso"
    with _held(root / "run/gesso"):
        assert find_layout(root).run == root / "run/gesso"


def test_root_finds_another_users_instance(root: Path) -> None:
    theirs = root / "dev/shm/gesso-1000"
    with _held(theirs):
        os.chown(theirs, 1000, -1)
        assert find_layout(root, 0).run == theirs
        assert find_layout(root, 1001).run == root / "run/gesso"


@pytest.mark.parametrize("planted", ["another user's", "open", "a link"])
def test_a_planted_folder_is_not_believed(root: Path, planted: str) -> None:
    _read_only(root / "run")
    user = os.geteuid()
    ours = root / f"dev/shm/gesso-{user}"
    if planted == "a link":
        (root / "elsewhere").mkdir()
        ours.symlink_to(root / "elsewhere")
    else:
        ours.mkdir()
    held = _held(ours)
    if planted == "another user's":
        os.chown(ours, 4711, -1)
    elif planted == "open":
        ours.chmod(0o777)
    with held:
        assert find_layout(root).run == root / "run/gesso", "which the boot then names as not writable"
