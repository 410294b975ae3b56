"""Drift: differences from the lock are noticed, reported, and cleared after a heal."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING

import pytest

from gesso.errors import CheckError
from gesso.runtime.gate import caddy
from gesso.runtime.prepare import guard, node_packs, workspace
from gesso.runtime.watch import drift

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record

GRAPH = b'{"nodes": []}'


@pytest.fixture
def made(layout: Layout, record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setattr(drift, "_POLL_INTERVAL", 0.005)
    monkeypatch.setattr(guard, "check", lambda *_: [])
    (layout.gesso / "workflows").mkdir()
    (layout.venv / "lib/python3.13/site-packages").mkdir(parents=True)
    (layout.gesso / "workflows/gold.json").write_bytes(GRAPH)
    found = record(workflows={"gold.json": hashlib.sha256(GRAPH).hexdigest()})
    workspace.lay_out(layout, found, lambda _: None)
    caddy.configure(layout, {})
    return found


def _reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows each time the files are read."""
    reads: list[int] = []

    def check(*_: object) -> list[guard.Finding]:
        reads.append(1)
        return []

    monkeypatch.setattr(guard, "check", check)
    return reads


def _seen(watch: drift.Drift) -> tuple[str, ...]:
    return watch.seen


def test_no_drift(layout: Layout, made: Record) -> None:
    assert drift.find_drift(layout, made, []) == ()


@pytest.mark.parametrize("where", ["ComfyUI/workflows/gold.json", "user/default/workflows/gold.json"])
def test_a_workflow_that_was_overwritten_or_deleted(layout: Layout, made: Record, where: str) -> None:
    path = layout.workspace / where
    path.write_bytes(b'{"nodes": [{"type": "LoadImage"}]}')
    assert drift.find_drift(layout, made, []) == (f"{path} is not the locked workflow",)
    path.unlink()
    assert drift.find_drift(layout, made, []) == (f"{path} is not the locked workflow",)
    path.symlink_to(path)  # one that cannot be read
    assert drift.find_drift(layout, made, []) == (f"{path} is not the locked workflow",)


def test_python_and_packs(layout: Layout, made: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = guard.Finding("sqlalchemy", "1.4.54", "2.0.58", broken=True)
    monkeypatch.setattr(node_packs, "changed", lambda *_: ("tooling: is missing or cannot be read",))
    assert drift.find_drift(layout, made, [finding]) == (
        "sqlalchemy is 1.4.54, the lock says 2.0.58", "tooling: is missing or cannot be read",
    )  # fmt: skip


def test_what_cannot_be_checked_is_drift(layout: Layout, made: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(*_: object) -> None:
        raise CheckError("/opt/venv: holds 2 Pythons, expected one", "start a fresh instance")

    monkeypatch.setattr(guard, "check", blind)
    watch = drift.Drift(layout, made, lambda: True)
    watch.check()
    assert _seen(watch) == ("/opt/venv: holds 2 Pythons, expected one",)


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(4000):
        if condition():
            return
        threading.Event().wait(0.005)
    pytest.fail("timed out")


def test_it_checks_when_krita_can_work(layout: Layout, made: Record) -> None:
    usable, stop = threading.Event(), threading.Event()
    watch = drift.Drift(layout, made, usable.is_set)
    graph = layout.workspace / "ComfyUI/workflows/gold.json"
    graph.write_bytes(b"{}")
    thread = threading.Thread(target=watch.run, args=(stop,))
    thread.start()
    try:
        stop.wait(0.05)
        assert _seen(watch) == ()  # the start must not be slowed down
        usable.set()
        _until(lambda: watch.seen != ())
        graph.write_bytes(GRAPH)
        watch.check()  # as a heal asks for, at its end
        assert _seen(watch) == ()
    finally:
        stop.set()
        thread.join()


def test_files_are_read_again_only_if_one_was_touched(
    layout: Layout, made: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = _reads(monkeypatch)
    watch = drift.Drift(layout, made, lambda: True)
    for _ in range(3):
        watch.check()
    assert len(reads) == 1
    package = layout.site_packages / "sqlalchemy"
    package.mkdir()
    (package / "orm.py").write_text("a = 1\n")
    watch.check()
    assert len(reads) == 2
    status = (package / "orm.py").stat()
    (package / "orm.py").write_text("a = 2\n")  # the same size, and the times set back
    os.utime(package / "orm.py", ns=(status.st_atime_ns, status.st_mtime_ns))
    watch.check()
    assert len(reads) == 3
    (layout.workspace / "ComfyUI/workflows/gold.json").chmod(0o600)  # its copies are watched, too
    watch.check()
    assert len(reads) == 4
    monkeypatch.setattr(drift, "_READ_INTERVAL", 0.0)
    watch.check()
    assert len(reads) == 5  # now and then in any case


def test_what_prevents_a_start_is_told_apart(layout: Layout, made: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = guard.Finding("sqlalchemy", "1.4.54", "2.0.58", broken=True)
    monkeypatch.setattr(guard, "check", lambda *_: [broken, guard.Finding("torch", "1", "2", broken=False)])
    watch = drift.Drift(layout, made, lambda: True)
    watch.check()
    assert watch.broken == ("sqlalchemy is 1.4.54, the lock says 2.0.58",)
    assert len(watch.seen) == 2


def test_a_changed_configuration_of_the_gate(layout: Layout, made: Record) -> None:
    watch = drift.Drift(layout, made, lambda: True)
    watch.check()
    assert _seen(watch) == ()
    (layout.run / "Caddyfile").write_bytes(b"\xff{")
    watch.check()
    assert _seen(watch) == ("the gate's configuration was changed; it takes effect when the gate restarts",)


def test_after_a_failed_check_the_files_are_read_again(
    layout: Layout, made: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = drift.Drift(layout, made, lambda: True)
    watch.check()

    def fail(*_: object) -> bool:
        raise CheckError("GESSO_TLS_CERT: no such file")

    with monkeypatch.context() as patch:
        patch.setattr(caddy, "is_configured", fail)
        watch.check()
    assert _seen(watch) == ("GESSO_TLS_CERT: no such file",)
    reads = _reads(monkeypatch)
    watch.check()
    assert (_seen(watch), len(reads)) == ((), 1)


@pytest.mark.parametrize(
    "name",
    [
        "venv/lib/python3.13/site-packages/numpy-1.dist-info/RECORD",
        "gesso/wheels/a.whl",
        "comfyui/custom_nodes/pack/a.py",
    ],
)
def test_each_watched_folder_is_read_again_after_a_change(
    layout: Layout, made: Record, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    made.raw["nodes"] = {"pack": {}}
    reads = _reads(monkeypatch)
    watch = drift.Drift(layout, made, lambda: True)
    watch.check()
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.touch()
    watch.check()
    assert len(reads) == 2
