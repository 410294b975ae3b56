"""The models' part of a heal, against a real server: all are hashed, and only bad ones quarantined and fetched."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from gesso.models import receipts
from gesso.models.folder import Folder
from gesso.runtime.heal.models import Models

from .fetching import LARGE, OTHER, SMALL, model_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mirror import Mirror

    from gesso.manifest.schema import Model
    from gesso.runtime.heal.damage import Damage

VAE, SECOND, SPARE = "vae/a.safetensors", "vae/b.safetensors", "vae/c.safetensors"


@pytest.fixture
def models(mirror: Mirror) -> tuple[Model, ...]:
    mirror.files |= {"/a.safetensors": LARGE, "/b.safetensors": SMALL, "/c.safetensors": SMALL}
    return (
        model_of(LARGE, mirror.url("/a.safetensors"), name=VAE),
        model_of(SMALL, mirror.url("/b.safetensors"), name=SECOND),
        model_of(SMALL, mirror.url("/c.safetensors"), name=SPARE, tier="optional"),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "vae").mkdir()
    for name, content in {VAE: LARGE, SECOND: SMALL, SPARE: SMALL}.items():
        (tmp_path / name).write_bytes(content)
    return Folder.at(tmp_path)


def _found(part: Models) -> list[Damage]:
    return part.examine(lambda *_: None)


def _identity(folder: Folder, name: str) -> tuple[int, int]:
    found = folder.path(name).stat()
    return found.st_ino, found.st_mtime_ns


def _healed(part: Models, *, received: int, events: Callable[..., None] = lambda *_, **__: None) -> None:
    outcomes = part.repair(_found(part), events)
    assert [outcome.state for outcome in outcomes] == ["repaired"] * len(outcomes)
    assert sum(outcome.received for outcome in outcomes) == received
    assert _found(part) == []


def test_models_without_damage(models: tuple[Model, ...], folder: Folder, mirror: Mirror) -> None:
    read: list[tuple[int, int | None]] = []
    part = Models(models, folder, {})
    assert part.examine(lambda done, size: read.append((done, size))) == []
    assert read[-1] == (len(LARGE) + 2 * len(SMALL),) * 2
    assert mirror.requests == []


@pytest.mark.parametrize(
    ("content", "status"),
    [(LARGE[:700], "stub"), (LARGE[:-1], "truncated"), (OTHER, "wrong-hash"), (b"<html>", "html")],
)
def test_only_bad_models_are_fetched(
    models: tuple[Model, ...], folder: Folder, mirror: Mirror, content: bytes, status: str
) -> None:
    folder.path(VAE).write_bytes(content)
    before, part = _identity(folder, SECOND), Models(models, folder, {})
    (damage,) = _found(part)
    assert damage.name == VAE
    assert damage.found.startswith(status)
    assert damage.size == len(LARGE)
    assert not damage.offline
    received_events: list[dict[str, Any]] = []
    _healed(part, received=len(LARGE), events=lambda event, **facts: received_events.append({"event": event, **facts}))
    assert folder.path(VAE).read_bytes() == LARGE
    assert _identity(folder, SECOND) == before
    assert {request.path for request in mirror.requests} == {"/a.safetensors"}
    assert [path.read_bytes() for path in folder.quarantine.iterdir()] == [content]
    assert {"quarantined", "done"} <= {event["kind"] for event in received_events}


def test_bytes_that_changed_under_a_valid_receipt(models: tuple[Model, ...], folder: Folder) -> None:
    """Bit rot changes neither time nor size: only a heal, which hashes everything, finds it."""
    folder.path(VAE).write_bytes(LARGE[:-1] + bytes([LARGE[-1] ^ 1]))
    receipts.write(folder, VAE, models[0].sha256, folder.path(VAE).stat())
    assert receipts.is_valid(folder, VAE, models[0].sha256)
    _healed(Models(models, folder, {}), received=len(LARGE))


def test_a_missing_model(models: tuple[Model, ...], folder: Folder) -> None:
    folder.path(SECOND).unlink()
    part = Models(models, folder, {})
    assert [damage.found for damage in _found(part)] == ["is missing"]
    _healed(part, received=len(SMALL))


def test_without_a_network_it_fails_with_a_next_step_and_the_others_stay(
    models: tuple[Model, ...], folder: Folder
) -> None:
    folder.path(VAE).write_bytes(b"")
    gone = models[0].model_copy(update={"sources": ("http://127.0.0.1:9/a.safetensors",)})
    part = Models((gone, *models[1:]), folder, {})
    (outcome,) = part.repair(_found(part), lambda *_, **__: None)
    assert outcome.state == "failed"
    assert outcome.code == 4
    assert outcome.why
    assert outcome.next_step
    assert folder.path(SECOND).read_bytes() == SMALL


def test_an_optional_model_that_does_not_fit_is_not_a_damage(
    models: tuple[Model, ...], folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(folder.root)
    full = os.statvfs_result((real.f_bsize, 4096, real.f_blocks, 5, 5, *real[5:10]))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    folder.path(SPARE).unlink()
    assert _found(Models(models, folder, {})) == []
    folder.path(SECOND).unlink()
    assert [damage.name for damage in _found(Models(models, folder, {}))] == [SECOND]


@pytest.mark.parametrize("hint", [len(LARGE) + 5, len(LARGE) - 5])
def test_a_wrong_size_in_the_record_is_no_damage_and_is_said_of_what_was_fetched(
    models: tuple[Model, ...], folder: Folder, hint: int
) -> None:
    part = Models([models[0].model_copy(update={"size": hint, "size_confirmed": False})], folder, {})
    assert _found(part) == []
    folder.path(VAE).unlink()
    [outcome] = part.repair(_found(part), lambda *_, **__: None)
    assert outcome.state == "repaired"
    assert f"; {hint:,} bytes said by the lock (unconfirmed), the file has {len(LARGE):,}" in outcome.why
