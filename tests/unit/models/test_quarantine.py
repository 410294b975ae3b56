"""Bad files are moved, not deleted; the evidence stays within a limit; folders and what links lead to stay put."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from gesso.models import quarantine, receipts
from gesso.models.folder import Folder

from .making import NAME, VAE, put, wanted


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.at(tmp_path / "models")


def test_a_bad_file_is_moved_with_its_bytes_and_named_after_when_why_and_what(folder: Folder) -> None:
    path = put(folder, NAME, b"<html>")
    kept = quarantine.move(folder, NAME, "html")
    assert not path.exists()
    assert kept.read_bytes() == b"<html>"
    assert kept.parent == folder.quarantine
    assert re.fullmatch(r"\d{8}-\d{6}\.html\.vae--sdxl_vae_fp16\.safetensors", kept.name)
    assert path.parent.is_dir()


def test_its_receipt_goes(folder: Folder) -> None:
    path = put(folder, NAME, VAE)
    receipts.write(folder, NAME, wanted().sha256, path.stat())
    kept = quarantine.move(folder, NAME, "wrong-hash")
    kept.rename(path)
    assert not folder.receipt(NAME).exists()
    assert not receipts.is_valid(folder, NAME, wanted().sha256)


def test_evidence_never_takes_the_place_of_evidence(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda _: "20260101-000000")
    kept = []
    for n in range(12):
        put(folder, NAME, bytes([n]))
        kept.append(quarantine.move(folder, NAME, "stub"))
    assert [path.read_bytes() for path in kept] == [bytes([n]) for n in range(12)]


def test_evidence_of_a_link_that_leads_nowhere_is_kept_too(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda _: "20260101-000000")
    kept = []
    for _ in range(2):
        put(folder, NAME, b"").unlink()
        folder.path(NAME).symlink_to("gone")
        kept.append(quarantine.move(folder, NAME, "missing"))
    assert kept[0] != kept[1]
    assert all(path.is_symlink() for path in kept)


def test_a_link_is_moved_and_what_it_leads_to_stays(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"x")
    put(folder, NAME, b"").unlink()
    folder.path(NAME).symlink_to(tmp_path / "theirs")
    kept = quarantine.move(folder, NAME, "stub")
    assert kept.is_symlink()
    assert (tmp_path / "theirs").read_bytes() == b"x"
    assert not os.path.lexists(folder.path(NAME))


def test_a_folder_is_never_moved(folder: Folder) -> None:
    """ComfyUI drops node classes whose model folder vanishes; and who knows what is in it."""
    path = folder.path(NAME)
    path.mkdir(parents=True)
    (path / "theirs").touch()
    with pytest.raises(OSError, match=r".") as caught:
        quarantine.move(folder, NAME, "unreadable")
    assert caught.value.errno in {errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}
    assert (path / "theirs").exists()


def test_a_mount_of_its_own_keeps_it_hidden_beside(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def other_disk(self: Path, target: Path) -> Path:
        if target.parent != self.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", other_disk)
    path = put(folder, NAME, b"bad")
    kept = quarantine.move(folder, NAME, "stub")
    assert (kept.parent, kept.read_bytes(), path.exists()) == (path.parent, b"bad", False)
    assert kept.name.startswith(".")
    assert kept.suffix == ".quarantined"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_what_cannot_be_moved_stays_and_is_an_error(folder: Folder, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    path = put(folder, NAME, b"bad")
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match=re.escape(os.strerror(code))):
        quarantine.move(folder, NAME, "stub")
    assert path.read_bytes() == b"bad"


def test_the_longest_name_can_be_put_aside(folder: Folder) -> None:
    name = f"vae/{'x' * 240}.safetensors"
    put(folder, name, b"bad")
    assert quarantine.move(folder, name, "wrong-family").read_bytes() == b"bad"


def _fill(folder: Folder, *names: str, size: int = 8192) -> None:
    folder.quarantine.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder.quarantine / name).write_bytes(b"x" * size)


NAMES = ("20260101-000000.stub.a", "20260102-000000.stub.b", "20260103-000000.stub.c")


@pytest.mark.parametrize(("keep", "left"), [(0, 0), (8191, 0), (8192, 1), (16384, 2), (24575, 2), (24576, 3)])
def test_the_oldest_go_first_until_it_fits(folder: Folder, keep: int, left: int) -> None:
    _fill(folder, *reversed(NAMES))
    assert quarantine.trim(folder, keep) == 8192 * (3 - left)
    assert sorted(path.name for path in folder.quarantine.iterdir()) == list(NAMES[3 - left :])


def test_nothing_to_trim_is_no_error(folder: Folder) -> None:
    assert quarantine.trim(folder, 0) == 0
    folder.quarantine.mkdir(parents=True)
    assert quarantine.trim(folder, 0) == 0


def test_trimming_follows_no_link(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"x" * 8192)
    folder.quarantine.mkdir(parents=True)
    (folder.quarantine / NAMES[0]).symlink_to(tmp_path / "theirs")
    assert quarantine.trim(folder, 0) < 8192
    _fill(folder, NAMES[1])
    quarantine.trim(folder, 0)
    assert (tmp_path / "theirs").read_bytes() == b"x" * 8192


def test_what_is_put_aside_now_trims_what_was_before(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "KEEP", 8192)
    _fill(folder, *NAMES)
    put(folder, NAME, b"x" * 8192)
    kept = quarantine.move(folder, NAME, "stub")
    assert list(folder.quarantine.iterdir()) == [kept]
