"""Orphans: processes of an earlier supervisor are ended, others are left alone."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gesso.runtime.layout import COMFY_USER
from gesso.runtime.prepare import orphans

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.runtime.layout import Layout


@pytest.fixture
def nobody_is_comfyui(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the machine of the tests other processes may have that user: a test must not end them."""
    monkeypatch.setattr(orphans, "COMFY_USER", -1)


@pytest.mark.usefixtures("nobody_is_comfyui")
def test_processes_of_an_earlier_supervisor_are_ended(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = {"SUPERVISOR_SERVER_URL": f"unix://{layout.run}/supervisor.sock"}
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    )
    argv = [sys.executable, "-c", stubborn]
    ours = subprocess.Popen(argv, env=mark, stdout=subprocess.PIPE)
    other = subprocess.Popen(argv, env={"SUPERVISOR_SERVER_URL": "unix:///x"}, stdout=subprocess.PIPE)
    try:
        for process in (ours, other):
            assert process.stdout is not None
            process.stdout.readline()
        assert orphans.find_orphans(layout) == [ours.pid]
        messages: list[str] = []
        monkeypatch.setattr(orphans, "_TERM_TIMEOUT", 0.2)
        orphans.end_orphans(layout, messages.append)
        assert messages == ["gesso: ending 1 processes left over from an earlier run"]
        assert ours.wait(10) == -9
        assert other.poll() is None
    finally:
        for process in (ours, other):
            process.kill()
            process.communicate()


@pytest.mark.usefixtures("nobody_is_comfyui")
def test_without_orphans_nothing_is_reported(layout: Layout) -> None:
    orphans.end_orphans(layout, pytest.fail)


def test_everything_of_comfyuis_user_is_an_orphan(layout: Layout, tmp_path: Path) -> None:
    """Its environment, and so the mark in it, is not readable for root in a container. Not of another container's."""
    rows = [
        (4001, COMFY_USER, "S", ""),
        (4002, COMFY_USER, "Z", ""),
        (4003, 1000, "S", ""),
        (4004, COMFY_USER, "S", "\t17"),
    ]
    for pid, user, state, inner in rows:
        (tmp_path / str(pid)).mkdir()
        text = f"Name:\tx\nState:\t{state} (x)\nUid:\t0\t{user}\t0\t0\nNSpid:\t{pid}{inner}\n"
        (tmp_path / f"{pid}/status").write_text(text)
    assert orphans.find_orphans(layout, tmp_path) == [4001]
