"""The builder's store: by content, shared by architectures, laid out by hard links, and only what was verified."""

from __future__ import annotations

import errno
import hashlib
from typing import TYPE_CHECKING

import pytest

from gesso.errors import BuildError
from gesso.models.faults import LocalError
from gesso.models.store import link_models, place_of, store
from gesso.models.verify import check

from .making import wanted

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.manifest.schema import Model
    from gesso.models.folder import Folder

PICKLE = "a test's own file, never loaded"
WHEN = 1_767_225_600


def _pickle(name: str, content: bytes) -> Model:
    return wanted(content, name, kind="upscale_model", family="any", allow_pickle=PICKLE)


def _filled(root: Path, *things: tuple[Model, bytes]) -> Folder:
    folder = store(root, [model for model, _ in things])
    for model, content in things:
        path = folder.path(model.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        assert check(model, folder).ok
    return folder


def test_a_place_is_the_hash_and_the_suffix_by_which_a_file_is_judged() -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    assert place_of(_pickle("upscale_models/A.PTH", b"x")) == f"sha256/{digest[:2]}/{digest}.pth"


def test_two_architectures_share_a_file_its_lock_and_its_receipt(tmp_path: Path) -> None:
    one, other = _pickle("upscale_models/a.pth", b"same"), _pickle("upscale_models/b.pth", b"same")
    folder = _filled(tmp_path, (one, b"same"))
    second = store(tmp_path, [other])
    assert second.path(other.name) == folder.path(one.name)
    assert second.lock(other.name) == folder.lock(one.name)
    assert check(other, second).by == "receipt"


def test_models_are_laid_out_as_links_with_one_time_and_mode(tmp_path: Path) -> None:
    model = _pickle("upscale_models/a.pth", b"content")
    folder = _filled(tmp_path / "store", (model, b"content"))
    folder.path(model.name).chmod(0o600)
    check(model, folder)
    assert link_models(folder, [model], tmp_path / "context", times=WHEN) == {model.name: 7}
    laid = tmp_path / "context" / model.name
    assert laid.samefile(folder.path(model.name))
    assert laid.stat().st_mtime == WHEN
    assert laid.stat().st_mode & 0o777 == 0o644


def test_the_receipt_outlives_the_link(tmp_path: Path) -> None:
    """A link changes a file's ctime; to hash 40 GB again at every build is not wanted."""
    model = _pickle("upscale_models/a.pth", b"content")
    folder = _filled(tmp_path / "store", (model, b"content"))
    for turn in range(3):
        link_models(folder, [model], tmp_path / f"context-{turn}", times=WHEN)
        assert check(model, folder).by == "receipt"


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
def test_where_no_link_can_be_made_the_file_is_copied(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _pickle("upscale_models/a.pth", b"content")
    folder = _filled(tmp_path / "store", (model, b"content"))

    def refuse(*_: object) -> None:
        raise OSError(code, "no links")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    link_models(folder, [model], tmp_path / "context", times=WHEN)
    laid = tmp_path / "context" / model.name
    assert laid.read_bytes() == b"content"
    assert not laid.samefile(folder.path(model.name))


def test_another_refusal_is_an_error_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _pickle("upscale_models/a.pth", b"content")
    folder = _filled(tmp_path / "store", (model, b"content"))

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    with pytest.raises(LocalError) as caught:
        link_models(folder, [model], tmp_path / "context", times=WHEN)
    assert caught.value.why == "disk-full"


@pytest.mark.parametrize("harm", ["absent", "altered", "no receipt"])
def test_nothing_is_laid_out_that_is_not_proven(harm: str, tmp_path: Path) -> None:
    model = _pickle("upscale_models/a.pth", b"content")
    folder = _filled(tmp_path / "store", (model, b"content"))
    match harm:
        case "absent":
            folder.path(model.name).unlink()
        case "altered":
            folder.path(model.name).write_bytes(b"CONTENT")
        case _:
            folder.receipt(model.name).unlink()
    with pytest.raises(BuildError, match="not in the store"):
        link_models(folder, [model], tmp_path / "context", times=WHEN)
    assert not (tmp_path / "context" / model.name).exists()
