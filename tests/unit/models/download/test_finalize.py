"""The last step: a rename, whatever stands there; and a receipt for just these bytes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gesso.models import receipts
from gesso.models.download import finalize as finalizing
from gesso.models.download.finalize import finalize, sync
from gesso.models.folder import Folder
from gesso.models.verify import check
from tests.unit.models.making import NAME, VAE, descriptors, put, wanted

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = wanted()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.at(tmp_path / "models")


@pytest.fixture
def handles() -> Iterator[list[int]]:
    opened: list[int] = []
    yield opened
    for handle in opened:
        os.close(handle)


def fetched(folder: Folder, handles: list[int]) -> tuple[Path, int]:
    """Lay down a partial file that is whole, with its journal, as they are when the hash has come out right."""
    partial, journal = folder.partial(NAME, MODEL.sha256), folder.journal(NAME, MODEL.sha256)
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(VAE)
    journal.touch()
    handles.append(os.open(partial, os.O_RDWR))
    return partial, handles[-1]


def in_place(folder: Folder) -> None:
    path = folder.path(NAME)
    assert path.read_bytes() == VAE
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # neither partial file nor journal
    assert check(MODEL, folder).by == "receipt"


def evidence(folder: Folder) -> list[Path]:
    return sorted(folder.quarantine.iterdir()) if folder.quarantine.is_dir() else []


def test_where_nothing_stood(folder: Folder, handles: list[int]) -> None:
    finalize(folder, MODEL, *fetched(folder, handles))
    in_place(folder)
    assert not folder.path(NAME).is_symlink()
    assert evidence(folder) == []


def test_what_somebody_put_there_meanwhile_is_kept(folder: Folder, handles: list[int]) -> None:
    put(folder, NAME, b"theirs")
    finalize(folder, MODEL, *fetched(folder, handles))
    in_place(folder)
    (kept,) = evidence(folder)
    assert kept.read_bytes() == b"theirs"
    assert ".replaced." in kept.name


@pytest.mark.parametrize("target", ["theirs", "gone", "a folder"])
def test_a_link_gives_way_and_what_it_leads_to_stays(
    folder: Folder, tmp_path: Path, handles: list[int], target: str
) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "a folder").mkdir()
    put(folder, NAME, b"").unlink()
    folder.path(NAME).symlink_to(tmp_path / target)
    finalize(folder, MODEL, *fetched(folder, handles))
    in_place(folder)
    assert not folder.path(NAME).is_symlink()
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert (tmp_path / "a folder").is_dir()
    assert [path.is_symlink() for path in evidence(folder)] == [True]


def test_a_folder_does_not_give_way(folder: Folder, handles: list[int]) -> None:
    folder.path(NAME).mkdir(parents=True)
    (folder.path(NAME) / "theirs").touch()
    partial, handle = fetched(folder, handles)
    with pytest.raises(OSError, match=r"directory"):
        finalize(folder, MODEL, partial, handle)
    assert (folder.path(NAME) / "theirs").exists()
    assert partial.exists()  # to be taken when the way is free
    assert not receipts.is_valid(folder, NAME, MODEL.sha256)


def test_a_models_folder_that_is_a_link_stays_one(folder: Folder, tmp_path: Path, handles: list[int]) -> None:
    (tmp_path / "big-disk").mkdir()
    folder.root.mkdir()
    (folder.root / "vae").symlink_to(tmp_path / "big-disk")
    finalize(folder, MODEL, *fetched(folder, handles))
    assert (folder.root / "vae").is_symlink()
    assert (tmp_path / "big-disk" / Path(NAME).name).read_bytes() == VAE
    in_place(folder)


def test_a_file_that_changed_in_the_last_moment_gets_no_receipt(
    folder: Folder, handles: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    partial, handle = fetched(folder, handles)

    def meddle(_: Path) -> None:
        os.truncate(folder.path(NAME), 10)

    monkeypatch.setattr(finalizing, "sync", meddle)
    finalize(folder, MODEL, partial, handle)
    assert not folder.receipt(NAME).exists()
    assert check(MODEL, folder).bad


def test_the_receipt_is_for_the_file_that_was_hashed_and_no_other(
    folder: Folder, handles: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    partial, handle = fetched(folder, handles)

    def swap(_: Path) -> None:
        (folder.root / "other").write_bytes(VAE)
        (folder.root / "other").replace(folder.path(NAME))

    monkeypatch.setattr(finalizing, "sync", swap)
    finalize(folder, MODEL, partial, handle)
    assert not receipts.is_valid(folder, NAME, MODEL.sha256)


def test_the_folder_is_synced_after_the_rename(
    folder: Folder, handles: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Path, bool]] = []
    monkeypatch.setattr(finalizing, "sync", lambda where: seen.append((where, folder.path(NAME).exists())))
    finalize(folder, MODEL, *fetched(folder, handles))
    assert seen == [(folder.path(NAME).parent, True)]


def test_with_a_state_that_cannot_be_written_it_is_in_place_all_the_same(tmp_path: Path, handles: list[int]) -> None:
    (tmp_path / "file").touch()
    folder = Folder.at(tmp_path / "models", tmp_path / "file" / "state")
    finalize(folder, MODEL, *fetched(folder, handles))
    assert check(MODEL, folder).by == "hash"


def test_what_cannot_be_synced_is_no_error(tmp_path: Path) -> None:
    sync(tmp_path)
    sync(tmp_path / "none")
    before = descriptors()
    sync(tmp_path)
    assert descriptors() == before


@pytest.mark.parametrize("how", ["taken away", "swapped"])
def test_only_the_file_that_was_hashed_is_put_in_place(folder: Folder, handles: list[int], how: str) -> None:
    partial, handle = fetched(folder, handles)
    partial.unlink()
    if how == "swapped":
        partial.write_bytes(b"other bytes under the same name")
    with pytest.raises(OSError, match=r".") as caught:
        finalize(folder, MODEL, partial, handle)
    assert caught.value.errno == errno.EBUSY
    assert not folder.path(NAME).exists()


def test_what_a_killed_run_left_after_the_rename_is_tidied(folder: Folder, handles: list[int]) -> None:
    fetched(folder, handles)
    put(folder, NAME, VAE)
    assert finalizing.remove_leftovers(folder, MODEL)
    assert [path.name for path in folder.path(NAME).parent.iterdir()] == [folder.path(NAME).name]
    assert not finalizing.remove_leftovers(folder, MODEL)
