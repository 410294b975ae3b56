"""Where a model's bytes lie, and that nothing of gesso's own is mistaken for a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.manifest.schema import PICKLE_SUFFIXES
from gesso.models.folder import Folder

from .making import NAME

if TYPE_CHECKING:
    from pathlib import Path

SHA = "0123456789abcdef" * 4
LISTED = (*PICKLE_SUFFIXES, ".safetensors", ".sft", ".gguf", ".pt2")  # what ComfyUI and its packs list


def test_the_final_path_is_the_name_under_the_root(tmp_path: Path) -> None:
    assert Folder.at(tmp_path).path(NAME) == tmp_path / "vae" / "sdxl_vae_fp16.safetensors"


def test_the_state_travels_with_the_models_unless_told(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "models")
    for path in (folder.lock(NAME), folder.receipt(NAME), folder.quarantine):
        assert path.is_relative_to(tmp_path / "models" / ".gesso")
    apart = Folder.at(tmp_path / "models", tmp_path / "state")
    for path in (apart.lock(NAME), apart.receipt(NAME), apart.quarantine):
        assert path.is_relative_to(tmp_path / "state")


def test_partial_and_journal_lie_beside_the_final_path_so_that_a_rename_is_atomic(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path, tmp_path / "elsewhere")
    partial, journal = folder.partial(NAME, SHA), folder.journal(NAME, SHA)
    assert partial.parent == journal.parent == folder.path(NAME).parent
    assert partial != journal


def test_comfyui_lists_neither_partial_nor_journal(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    for path in (folder.partial(NAME, SHA), folder.journal(NAME, SHA)):
        assert not path.name.lower().endswith(LISTED)
        assert path.name.startswith(".")


def test_what_another_lock_wanted_is_never_resumed(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    other = f"{'f' * 16}{SHA[16:]}"
    assert folder.partial(NAME, SHA) != folder.partial(NAME, other)
    assert folder.journal(NAME, SHA) != folder.journal(NAME, other)


def test_different_names_never_share_lock_or_receipt(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    names = [
        "vae/a.sft",
        "vae/a--b.sft",
        "vae/a/b.sft",
        "vae--a/b.sft",
        f"vae/{'x' * 240}1.sft",
        f"vae/{'x' * 240}2.sft",
    ]
    assert len({folder.lock(name) for name in names}) == len(names)
    assert len({folder.receipt(name) for name in names}) == len(names)


@given(st.text("abcdefghij0123._+-", min_size=1, max_size=243))
def test_the_longest_name_still_makes_file_names_that_a_disk_takes(part: str) -> None:
    from pathlib import Path

    folder = Folder.at(Path("/models"))
    name = f"vae/x{part}.safetensors"
    for path in (folder.lock(name), folder.receipt(name), folder.partial(name, SHA), folder.journal(name, SHA)):
        assert len(path.name.encode()) <= 255
        assert path.parent in {folder.path(name).parent, folder.state / "locks", folder.state / "receipts"}


def test_a_lock_and_a_receipt_are_named_so_that_a_person_finds_them(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    assert folder.receipt(NAME).name.startswith("vae--sdxl_vae_fp16.safetensors.")
    assert folder.lock(NAME).name.startswith("vae--sdxl_vae_fp16.safetensors.")


def test_a_store_lays_models_where_it_wants_and_all_else_follows(tmp_path: Path) -> None:
    folder = Folder(tmp_path, tmp_path / ".gesso", {NAME: "sha256/ab.safetensors"})
    assert folder.path(NAME) == tmp_path / "sha256" / "ab.safetensors"
    assert folder.partial(NAME, SHA).parent == tmp_path / "sha256"
    same = Folder(tmp_path, tmp_path / ".gesso", {"vae/other.sft": "sha256/ab.safetensors"})
    assert folder.lock(NAME) == same.lock("vae/other.sft")  # one file, whatever two architectures call it: one lock
    assert folder.receipt(NAME) == same.receipt("vae/other.sft")
    assert folder.path("vae/not-placed.sft") == tmp_path / "vae" / "not-placed.sft"


@pytest.mark.parametrize("name", [NAME, f"vae/{'x' * 200}.safetensors"])
def test_what_another_lock_left_half_is_found_and_nothing_else(tmp_path: Path, name: str) -> None:
    folder = Folder.at(tmp_path)
    folder.path(name).parent.mkdir()
    old = [folder.partial(name, "f" * 64), folder.journal(name, "f" * 64)]
    kept = [
        folder.path(name), folder.partial(name, SHA), folder.journal(name, SHA),
        folder.partial("vae/other.safetensors", "f" * 64), folder.path("vae/theirs.part"),
    ]  # fmt: skip
    for path in old + kept:
        path.touch()
    assert sorted(folder.strangers(name, SHA)) == sorted(old)
    assert folder.strangers("unet/none.sft", SHA) == []
