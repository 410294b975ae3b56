"""The scrub finds bytes that changed behind the filesystem's back, and gives way to ComfyUI."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.manifest.schema import Model
from gesso.models import receipts
from gesso.models.folder import Folder
from gesso.runtime.services import comfyui
from gesso.runtime.watch import scrub

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = bytes(range(256)) * 20_000  # five chunks


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


def _scrub(folder: Folder, *models: Model, **given: Any) -> list[str]:
    doubted: list[str] = []
    scrub.Scrub(models, folder, doubted.append, **{"may": lambda: True, "rate": 10**12, **given}).once(
        threading.Event()
    )
    return doubted


def test_what_is_right_is_left_in_peace(folder: Folder) -> None:
    model = _model("vae/a.safetensors", CONTENT)
    _put(folder, model, CONTENT)
    assert _scrub(folder, model) == []
    assert receipts.holds(folder, model.name, model.sha256)


def test_a_rotten_byte_under_a_valid_receipt(folder: Folder) -> None:
    good, bad = _model("vae/a.safetensors", CONTENT), _model("vae/b.safetensors", CONTENT)
    _put(folder, good, CONTENT)
    _put(folder, bad, CONTENT[:-1] + b"X")
    assert receipts.holds(folder, bad.name, bad.sha256)  # so that nothing but the bytes can tell
    assert _scrub(folder, bad, good) == [bad.name]
    assert not receipts.holds(folder, bad.name, bad.sha256)


def test_a_file_without_a_receipt_is_not_its_business(folder: Folder) -> None:
    model = _model("vae/a.safetensors", CONTENT)
    folder.path(model.name).write_bytes(b"partly here")
    assert _scrub(folder, model, _model("vae/gone.safetensors", b"x")) == []


def test_one_that_is_written_to_meanwhile_is_the_stocks(folder: Folder) -> None:
    model = _model("vae/a.safetensors", CONTENT)
    _put(folder, model, CONTENT)
    path = folder.path(model.name)

    def may() -> bool:
        path.write_bytes(b"other bytes")
        return True

    assert _scrub(folder, model, may=may) == []


def test_comfyui_at_work_is_waited_for(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "_STEP", 0.001)
    monkeypatch.setattr(scrub, "_FRESH", 0.0)
    answers = iter([False, False])
    model = _model("vae/a.safetensors", CONTENT)
    _put(folder, model, CONTENT[:-1] + b"X")
    assert _scrub(folder, model, may=lambda: next(answers, True)) == [model.name]
    assert next(answers, None) is None


def test_told_to_stop_it_accuses_nobody(folder: Folder) -> None:
    model = _model("vae/a.safetensors", CONTENT)
    _put(folder, model, CONTENT)
    stop, doubted = threading.Event(), list[str]()

    def may() -> bool:
        stop.set()
        return True

    scrub.Scrub([model], folder, doubted.append, may, 10**12).once(stop)
    assert doubted == []


@pytest.mark.parametrize(
    ("answer", "idle"),
    [({"exec_info": {"queue_remaining": 0}}, True), ({"exec_info": {"queue_remaining": 1}}, False), ([], True)],
)
def test_idle_by_comfyuis_own_word(monkeypatch: pytest.MonkeyPatch, answer: Any, idle: bool) -> None:
    monkeypatch.setattr(comfyui, "ask", lambda *_, **__: answer)
    assert scrub.idle() is idle


def test_a_comfyui_that_is_down_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any, **__: Any) -> Any:
        raise CheckError("ComfyUI does not answer")

    monkeypatch.setattr(comfyui, "ask", down)
    assert scrub.idle()
