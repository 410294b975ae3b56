"""The scrub finds silently corrupted bytes, and pauses while ComfyUI is busy."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gesso.manifest.schema import Model
from gesso.models import receipts
from gesso.models.folder import Folder
from gesso.runtime.watch import scrub

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = bytes(range(256)) * 20_000  # two buffers


def _model(name: str, content: bytes) -> Model:
    return Model.model_validate({
        "name": name, "sources": ["https://example.org/x"], "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content), "kind": "vae", "family": "sdxl", "tier": "required", "license": "MIT",
    })  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "vae").mkdir()
    return Folder.at(tmp_path)


def _put(folder: Folder, model: Model, content: bytes) -> None:
    path = folder.path(model.name)
    path.write_bytes(content)
    receipts.write(folder, model.name, model.sha256, path.stat())


def _scrub(folder: Folder, *models: Model, **options: Any) -> list[str]:
    damaged: list[str] = []
    scrub.Scrub(models, folder, damaged.append, **{"is_idle": lambda: True, "rate": 10**12, **options}).once(
        threading.Event()
    )
    return damaged


def test_intact_files_are_left_alone(folder: Folder) -> None:
    model = _model("vae/a.safetensors", CONTENT)
    _put(folder, model, CONTENT)
    assert _scrub(folder, model) == []
    assert receipts.is_valid(folder, model.name, model.sha256)


def test_a_corrupt_byte_under_a_valid_receipt(folder: Folder) -> None:
    good, bad = _model("vae/a.safetensors", CONTENT), _model("vae/b.safetensors", CONTENT)
    _put(folder, good, CONTENT)
    _put(folder, bad, CONTENT[:-1] + b"X")
    assert receipts.is_valid(folder, bad.name, bad.sha256)  # only the bytes reveal it
    assert _scrub(folder, bad, good) == [bad.name]
    assert not receipts.is_valid(folder, bad.name, bad.sha256)


def test_a_file_without_a_receipt_is_skipped(folder: Folder) -> None:
    model = _model("vae/a.safetensors", CONTENT)
    folder.path(model.name).write_bytes(b"partly here")
    assert _scrub(folder, model, _model("vae/gone.safetensors", b"x")) == []


def test_a_file_written_meanwhile_is_left_to_model_sync(folder: Folder) -> None:
    model = _model("vae/a.safetensors", CONTENT)
    _put(folder, model, CONTENT)
    path = folder.path(model.name)

    def is_idle() -> bool:
        path.write_bytes(b"other bytes")
        return True

    assert _scrub(folder, model, is_idle=is_idle) == []


def test_it_waits_while_comfyui_is_busy(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "_POLL_INTERVAL", 0.001)
    answers = iter([False, False])
    model = _model("vae/a.safetensors", CONTENT)
    _put(folder, model, CONTENT[:-1] + b"X")
    assert _scrub(folder, model, is_idle=lambda: next(answers, True)) == [model.name]
    assert next(answers, None) is None


def test_stopping_reports_nothing(folder: Folder) -> None:
    model = _model("vae/a.safetensors", CONTENT)
    _put(folder, model, CONTENT)
    stop, damaged = threading.Event(), list[str]()

    def is_idle() -> bool:
        stop.set()
        return True

    scrub.Scrub([model], folder, damaged.append, is_idle, 10**12).once(stop)
    assert damaged == []
