"""A receipt is believed while the file looks as it did when it was hashed, and never a moment longer."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.models import receipts
from gesso.models.folder import Folder

from .making import NAME, VAE, keep_times, put, wanted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHA = wanted().sha256


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Give a folder with one file that has a valid receipt."""
    folder = Folder.at(tmp_path / "models")
    path = put(folder, NAME, VAE)
    assert receipts.write(folder, NAME, SHA, path.stat())
    assert receipts.is_valid(folder, NAME, SHA)
    return folder


def held(folder: Folder) -> bool:
    return receipts.is_valid(folder, NAME, SHA)


def test_without_a_receipt_nothing_is_held(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    put(folder, NAME, VAE)
    assert not held(folder)


def test_reading_a_file_leaves_its_receipt_valid(folder: Folder) -> None:
    assert folder.path(NAME).read_bytes() == VAE
    assert held(folder)


def test_a_receipt_says_what_a_person_wants_to_know(folder: Folder) -> None:
    said = json.loads(folder.receipt(NAME).read_text())
    assert (said["name"], said["sha256"], said["size"]) == (NAME, SHA, len(VAE))
    assert said["verified"] > 1_600_000_000


def _touched(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


def _rewritten(path: Path) -> None:
    stat = path.stat()
    path.write_bytes(VAE[:-1] + b"!")
    keep_times(path, stat)


def _replaced(path: Path) -> None:
    stat, other = path.stat(), path.with_name("other")
    other.write_bytes(VAE)
    keep_times(other, stat)
    other.replace(path)


def _cut(path: Path) -> None:
    stat = path.stat()
    os.truncate(path, len(VAE) - 1)
    keep_times(path, stat)


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _linked_elsewhere(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(VAE)
    keep_times(other, path.stat())
    path.unlink()
    path.symlink_to(other)


CHANGES: dict[str, Callable[[Path], None]] = {
    "touched": _touched,
    "rewritten, same size and mtime": _rewritten,
    "replaced by a rename, same size and mtime": _replaced,
    "cut, same mtime": _cut,
    "taken away": lambda path: path.unlink(),
    "a folder now": _a_folder,
    "a link to a copy": _linked_elsewhere,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_was_touched_in_any_way_is_not_held(folder: Folder, change: str) -> None:
    CHANGES[change](folder.path(NAME))
    assert not held(folder)


@pytest.mark.parametrize("key", ["size", "mtime_ns", "ctime_ns", "inode"])
def test_each_of_what_a_file_looks_like_counts(folder: Folder, key: str) -> None:
    """mtime, ctime and inode differ together in most changes above: here each differs alone."""
    said = json.loads(folder.receipt(NAME).read_text())
    folder.receipt(NAME).write_text(json.dumps(said | {key: said[key] + 1}))
    assert not held(folder)


@pytest.mark.parametrize("key", ["size", "mtime_ns", "ctime_ns", "inode", "sha256", "format"])
def test_a_receipt_that_leaves_something_out_is_none(folder: Folder, key: str) -> None:
    said = json.loads(folder.receipt(NAME).read_text())
    del said[key]
    folder.receipt(NAME).write_text(json.dumps(said))
    assert not held(folder)


def test_another_format_is_not_believed(folder: Folder) -> None:
    said = json.loads(folder.receipt(NAME).read_text())
    folder.receipt(NAME).write_text(json.dumps(said | {"format": said["format"] + 1}))
    assert not held(folder)


def test_a_receipt_for_other_bytes_is_not_held(folder: Folder) -> None:
    assert not receipts.is_valid(folder, NAME, "f" * 64)


def test_a_receipt_for_another_name_is_not_held(folder: Folder) -> None:
    other = "vae/other.safetensors"
    put(folder, other, VAE)
    folder.receipt(other).write_bytes(folder.receipt(NAME).read_bytes())
    assert not receipts.is_valid(folder, other, SHA)


BROKEN = {
    "empty": b"",
    "no JSON": b"receipt",
    "no UTF-8": b"\xff\xfe\x00",
    "a list": b"[1, 2]",
    "null": b"null",
    "a number too long": b"9" * 5_000,
    "nested deeply": b"[" * 100_000,
    "nested deeply and closed": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_receipt_is_none(folder: Folder, how: str) -> None:
    folder.receipt(NAME).write_bytes(BROKEN[how])
    assert not held(folder)


def test_a_receipt_cut_at_any_byte_is_none(folder: Folder) -> None:
    whole = folder.receipt(NAME).read_bytes()
    for end in range(len(whole)):
        folder.receipt(NAME).write_bytes(whole[:end])
        assert not held(folder), end


def test_a_receipt_that_is_a_folder_is_none(folder: Folder) -> None:
    folder.receipt(NAME).unlink()
    folder.receipt(NAME).mkdir()
    assert not held(folder)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["size", "sha256"]), inner, max_size=3),
    max_leaves=5,
)


@given(JSON)
def test_no_json_but_the_right_one_is_believed(tmp_path_factory: pytest.TempPathFactory, said: Any) -> None:
    folder = Folder.at(tmp_path_factory.getbasetemp() / "any")
    put(folder, NAME, VAE)
    folder.receipt(NAME).parent.mkdir(parents=True, exist_ok=True)
    folder.receipt(NAME).write_text(json.dumps(said))
    assert not held(folder)


def test_a_file_reached_by_links_is_judged_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "big-disk").mkdir()
    folder = Folder.at(tmp_path / "models")
    folder.root.mkdir()
    (folder.root / "vae").symlink_to(tmp_path / "big-disk")
    path = put(folder, NAME, VAE)
    assert receipts.write(folder, NAME, SHA, path.stat())
    assert held(folder)
    _rewritten(tmp_path / "big-disk" / path.name)
    assert not held(folder)


def test_where_it_cannot_be_kept_this_is_said_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = Folder.at(tmp_path / "models", tmp_path / "file" / "state")  # ENOTDIR, for root too
    path = put(folder, NAME, VAE)
    assert receipts.write(folder, NAME, SHA, path.stat()) is False
    assert not held(folder)
    receipts.delete(folder, NAME)


def test_a_write_that_fails_half_way_leaves_nothing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = folder.receipt(NAME).read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", full)
    assert receipts.write(folder, NAME, "f" * 64, folder.path(NAME).stat()) is False
    assert list(folder.receipt(NAME).parent.iterdir()) == [folder.receipt(NAME)]
    assert folder.receipt(NAME).read_bytes() == before


def test_a_new_receipt_takes_the_place_of_the_old(folder: Folder) -> None:
    path = put(folder, NAME, VAE + b"more")
    assert receipts.write(folder, NAME, "a" * 64, path.stat())
    assert not held(folder)
    assert receipts.is_valid(folder, NAME, "a" * 64)
    assert list(folder.receipt(NAME).parent.iterdir()) == [folder.receipt(NAME)]


def test_what_is_forgotten_is_not_held(folder: Folder) -> None:
    receipts.delete(folder, NAME)
    assert not held(folder)
    receipts.delete(folder, NAME)  # and twice is no error
