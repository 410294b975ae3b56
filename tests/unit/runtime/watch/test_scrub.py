"""The scrub finds silently corrupted bytes, and pauses while ComfyUI is busy."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gesso.manifest.schema import Model
from gesso.models import receipts
from gesso.models.folder import Folder
from gesso.runtime.watch import scrub

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = bytes(range(256)) * 20_000  # two buffers of the scrub


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


class Clock(threading.Event):
    """An event that records how long it was waited for, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0)
        return self.is_set()


def test_it_reads_at_its_rate(folder: Folder) -> None:
    model = _model("vae/a.safetensors", CONTENT)
    _put(folder, model, CONTENT)
    clock = Clock()
    scrub.Scrub([model], folder, pytest.fail, rate=1_000_000).once(clock)
    assert sum(clock.waits) == pytest.approx(len(CONTENT) / 1_000_000)
    assert scrub.RATE * scrub.PASS_INTERVAL >= 20e9, "the models of an instance, in one interval"


def test_it_reads_in_few_large_pieces_into_one_buffer(folder: Folder) -> None:
    """Each wakes the disk; the memory is as large as the file at most."""
    large, small = _model("vae/a.safetensors", CONTENT), _model("vae/b.safetensors", b"small")
    _put(folder, large, CONTENT)
    _put(folder, small, b"small")
    clock = Clock()
    found = scrub.Scrub([large], folder, pytest.fail)
    found.once(clock)
    assert len(clock.waits) == 2
    assert len(found._buffer) == 4 << 20
    found = scrub.Scrub([small], folder, pytest.fail)
    found.once(clock)
    assert len(found._buffer) == 5


def test_an_empty_file(folder: Folder) -> None:
    model = _model("vae/a.safetensors", b"x")
    empty = model.model_copy(update={"sha256": hashlib.sha256(b"").hexdigest()})
    folder.path(model.name).write_bytes(b"")
    receipts.write(folder, model.name, empty.sha256, folder.path(model.name).stat())
    assert _scrub(folder, empty) == []


def test_an_unreadable_file_is_damaged(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sector of the disk that cannot be read, for example; the models after it are hashed as well."""
    models = [_model("vae/a.safetensors", CONTENT), _model("vae/b.safetensors", CONTENT)]
    for model in models:
        _put(folder, model, CONTENT)
    real, calls = os.preadv, iter([OSError(5, "Input/output error")])

    def preadv(*args: Any) -> int:
        if (error := next(calls, None)) is not None:
            raise error
        return real(*args)

    monkeypatch.setattr(os, "preadv", preadv)
    assert _scrub(folder, *models) == [models[0].name]
    assert not receipts.is_valid(folder, models[0].name, models[0].sha256)


def test_a_file_that_disappears_does_not_end_the_pass(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, bad = _model("vae/a.safetensors", CONTENT), _model("vae/b.safetensors", CONTENT)
    _put(folder, gone, CONTENT)
    _put(folder, bad, CONTENT[:-1] + b"X")
    real = os.open

    def vanish(path: Any, flags: int) -> int:
        path.unlink() if path.name == "a.safetensors" else None
        return real(path, flags)

    monkeypatch.setattr(scrub, "os", type("Os", (), {**vars(os), "open": staticmethod(vanish)}))
    assert _scrub(folder, gone, bad) == [bad.name]


def test_the_loop_waits_before_its_first_pass_and_between_two(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    classes: list[int] = []
    monkeypatch.setattr(scrub, "_read_when_idle", lambda: classes.append(1))
    found, clock = scrub.Scrub([], folder, pytest.fail), Clock()
    passes: list[int] = []

    def once(_: Any) -> None:
        passes.append(1)
        if len(passes) == 2:
            clock.set()

    monkeypatch.setattr(found, "once", once)
    found.run(clock)
    assert clock.waits == [scrub.FIRST_DELAY, scrub.PASS_INTERVAL, scrub.PASS_INTERVAL]
    assert classes == [1]


def test_the_disk_serves_this_thread_last() -> None:
    found: list[int] = []

    def look() -> None:
        scrub._read_when_idle()
        found.append(ctypes.CDLL(None).syscall(252, 1, 0) >> 13)  # ioprio_get(2)

    if platform.machine() != "x86_64":
        pytest.skip("the number of the call is that of x86_64")
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found in ([3], [-1]), "-1: the kernel of a sandbox may refuse"
