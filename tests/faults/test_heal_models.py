"""The models' part of a heal, against a real server: just what is bad is put aside and fetched, and all is hashed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from gesso.models import receipts
from gesso.models.folder import Folder
from gesso.runtime.heal.models import Models

from .fetching import OTHER, SIX, SMALL, wanted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mirror import Mirror

    from gesso.manifest.schema import Model
    from gesso.runtime.heal.damage import Damage

VAE, SECOND, SPARE = "vae/a.safetensors", "vae/b.safetensors", "vae/c.safetensors"


@pytest.fixture
def models(mirror: Mirror) -> tuple[Model, ...]:
    mirror.files |= {"/a.safetensors": SIX, "/b.safetensors": SMALL, "/c.safetensors": SMALL}
    return (
        wanted(SIX, mirror.url("/a.safetensors"), name=VAE),
        wanted(SMALL, mirror.url("/b.safetensors"), name=SECOND),
        wanted(SMALL, mirror.url("/c.safetensors"), name=SPARE, tier="optional"),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "vae").mkdir()
    for name, content in {VAE: SIX, SECOND: SMALL, SPARE: SMALL}.items():
        (tmp_path / name).write_bytes(content)
    return Folder.at(tmp_path)


def _found(part: Models) -> list[Damage]:
    return part.examine(lambda *_: None)


def _looks(folder: Folder, name: str) -> tuple[int, int]:
    found = folder.path(name).stat()
    return found.st_ino, found.st_mtime_ns


def _healed(part: Models, *, received: int, events: Callable[..., None] = lambda *_, **__: None) -> None:
    outcomes = part.repair(_found(part), events)
    assert [outcome.state for outcome in outcomes] == ["repaired"] * len(outcomes)
    assert sum(outcome.received for outcome in outcomes) == received
    assert _found(part) == []


def test_all_is_right(models: tuple[Model, ...], folder: Folder, mirror: Mirror) -> None:
    read: list[tuple[int, int | None]] = []
    part = Models(models, folder, {})
    assert part.examine(lambda done, size: read.append((done, size))) == []
    assert read[-1] == (len(SIX) + 2 * len(SMALL),) * 2
    assert mirror.requests == []


@pytest.mark.parametrize(
    ("content", "said"), [(SIX[:700], "stub"), (SIX[:-1], "truncated"), (OTHER, "wrong-hash"), (b"<html>", "html")]
)
def test_just_what_is_bad_is_fetched(
    models: tuple[Model, ...], folder: Folder, mirror: Mirror, content: bytes, said: str
) -> None:
    folder.path(VAE).write_bytes(content)
    before, part = _looks(folder, SECOND), Models(models, folder, {})
    (damage,) = _found(part)
    assert damage.name == VAE
    assert damage.found.startswith(said)
    assert damage.size == len(SIX)
    assert not damage.offline
    told: list[dict[str, Any]] = []
    _healed(part, received=len(SIX), events=lambda event, **facts: told.append({"event": event, **facts}))
    assert folder.path(VAE).read_bytes() == SIX
    assert _looks(folder, SECOND) == before
    assert {request.path for request in mirror.requests} == {"/a.safetensors"}
    assert [path.read_bytes() for path in folder.quarantine.iterdir()] == [content]
    assert {"quarantined", "done"} <= {event["kind"] for event in told}


def test_bytes_that_changed_under_a_valid_receipt(models: tuple[Model, ...], folder: Folder) -> None:
    """A disk that rots changes no time and no size: only a heal, which hashes everything, can tell."""
    folder.path(VAE).write_bytes(SIX[:-1] + bytes([SIX[-1] ^ 1]))
    receipts.write(folder, VAE, models[0].sha256, folder.path(VAE).stat())
    assert receipts.holds(folder, VAE, models[0].sha256)
    _healed(Models(models, folder, {}), received=len(SIX))


def test_a_missing_one(models: tuple[Model, ...], folder: Folder) -> None:
    folder.path(SECOND).unlink()
    part = Models(models, folder, {})
    assert [damage.found for damage in _found(part)] == ["is not here"]
    _healed(part, received=len(SMALL))


def test_without_a_network_it_fails_with_words_and_the_others_stay(models: tuple[Model, ...], folder: Folder) -> None:
    folder.path(VAE).write_bytes(b"")
    gone = models[0].model_copy(update={"sources": ("http://127.0.0.1:9/a.safetensors",)})
    part = Models((gone, *models[1:]), folder, {})
    (outcome,) = part.repair(_found(part), lambda *_, **__: None)
    assert outcome.state == "failed"
    assert outcome.code == 4
    assert outcome.why
    assert outcome.next_step
    assert folder.path(SECOND).read_bytes() == SMALL


def test_an_optional_one_that_does_not_fit_is_no_damage(
    models: tuple[Model, ...], folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(folder.root)
    full = os.statvfs_result((real.f_bsize, 4096, real.f_blocks, 5, 5, *real[5:10]))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    folder.path(SPARE).unlink()
    assert _found(Models(models, folder, {})) == []
    folder.path(SECOND).unlink()
    assert [damage.name for damage in _found(Models(models, folder, {}))] == [SECOND]
