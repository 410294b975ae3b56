"""Every file in examples/bad is refused with exactly the lines of its .expected file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gesso.errors import ManifestError
from gesso.manifest.load import load

if TYPE_CHECKING:
    from collections.abc import Iterator

BAD = sorted((Path(__file__).parent / "examples/bad").glob("*.yaml"))


def listing(*folders: Path) -> list[tuple[str, int, int]]:
    """List the files in the folders with size and modification time."""
    entries = (entry for folder in folders for entry in os.scandir(folder))
    return sorted((entry.path, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries)


@pytest.fixture(autouse=True, scope="module")
def nothing_is_written(examples: Path) -> Iterator[None]:
    """Check that these tests change no file."""
    before = listing(examples, examples / "bad")
    yield
    assert listing(examples, examples / "bad") == before


def test_good_example_loads(examples: Path) -> None:
    loaded = load(examples / "good.yaml")

    assert loaded.manifest.arch == "good"
    assert loaded.manifest.python.version == "3.13"
    assert [model.name for model in loaded.manifest.models] == [
        "checkpoints/desk.safetensors",
        "vae/lamp.safetensors",
        "upscale_models/lens.pth",
    ]
    assert loaded.files == (examples / "good.yaml",)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_example_is_refused_with_exactly_its_findings(path: Path, examples: Path) -> None:
    expected = path.with_suffix(".expected").read_text(encoding="utf-8").splitlines()

    with pytest.raises(ManifestError) as caught:
        load(path, root=examples)

    assert caught.value.exit_code == 2
    assert caught.value.next_step
    count = len(expected)
    head = f"the manifest has {count} problem{'s' * (count != 1)}:"
    assert caught.value.message.splitlines() == [head, *expected]


def test_every_example_has_an_expected_file_and_vice_versa() -> None:
    folder = BAD[0].parent

    assert len(BAD) >= 28
    assert {path.stem for path in BAD} == {path.stem for path in folder.glob("*.expected")}
    assert {path.suffix for path in folder.iterdir()} == {".yaml", ".expected"}
