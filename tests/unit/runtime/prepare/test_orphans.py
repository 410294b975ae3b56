"""Orphans: processes of an earlier supervisor are ended, others are left alone."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gesso.runtime.prepare import orphans

if TYPE_CHECKING:
    from gesso.runtime.layout import Layout


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


def test_without_orphans_nothing_is_reported(layout: Layout) -> None:
    orphans.end_orphans(layout, pytest.fail)
