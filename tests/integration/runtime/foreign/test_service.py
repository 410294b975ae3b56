"""ComfyUI restarted the way it was started: real processes called main.py that answer the requests of a heal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.runtime.foreign import discover, service
from gesso.runtime.foreign.launch_method import LaunchMethod
from gesso.runtime.foreign.paths import ForeignLayout
from gesso.runtime.layout import Record
from tests.unit.runtime.foreign.test_discover import comfyui, python

if TYPE_CHECKING:
    from collections.abc import Iterator

MAIN = """\
import http.server, json, sys
if '--broken' in sys.argv:
    sys.exit('it is broken')
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rsplit('/', 1)[1]
        data = json.dumps({name: {}} if name == 'ETN_A' else {}).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *_):
        pass
print('serving', flush=True)
http.server.HTTPServer(('127.0.0.1', int(sys.argv[sys.argv.index('--port') + 1])), Handler).serve_forever()
"""
BY_HAND = LaunchMethod("by hand")


def record(*classes: str) -> Record:
    return Record("sdxl", "t", False, classes, {}, {}, {})


class FakeComfyui:
    """A ComfyUI in a folder; its processes are killed at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = comfyui(folder / "ComfyUI")
        (self.folder / "main.py").write_text(MAIN)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.layout = ForeignLayout(
            state_at=folder / "state", run=folder / "state/run", port=self.port, comfyui=self.folder
        )
        self.log = folder / "comfy.log"
        self.events: list[dict[str, Any]] = []

    def start(self, **env: str) -> int:
        with self.log.open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "main.py", "--port", str(self.port)], cwd=self.folder, stdout=log, stderr=log,
                env={**os.environ, **env}, start_new_session=True,
            )  # fmt: skip
        started.returncode = 0  # it is not ours to wait for
        self.wait_for(lambda: service.ForeignService(self.layout, record("ETN_A"), self.found(), BY_HAND).is_up())
        return started.pid

    def wait_for(self, condition: Any) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def found(self) -> discover.Found:
        return discover.find(str(self.folder))

    def service(self, method: LaunchMethod = BY_HAND, *classes: str) -> service.ForeignService:
        return service.ForeignService(self.layout, record(*(classes or ("ETN_A",))), self.found(), method)

    def on_event(self, event: str, **facts: Any) -> None:
        self.events.append({"event": event, **facts})

    def end(self) -> None:
        for process in discover.running():
            if process.main is not None and process.main.parent == self.folder:
                os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeComfyui]:
    monkeypatch.setattr(service, "RESPAWN_TIMEOUT", 0.3)
    instance = FakeComfyui(tmp_path)
    yield instance
    instance.end()


def test_by_hand_it_is_restarted_as_it_was(instance: FakeComfyui, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = instance.start(MINE="kept")
    monkeypatch.setenv("OF_OUR_SESSION", "1")
    one = instance.service()
    one.mark_restart_pending()
    assert one.restart_pending()
    one.restart(instance.on_event)
    one.wait_ready(instance.on_event, all_repaired=True)
    assert not one.restart_pending()
    process = instance.found().process
    assert process is not None
    assert process.pid != pid
    assert process.argv == (sys.executable, "main.py", "--port", str(instance.port))
    assert process.env["MINE"] == "kept"
    assert "OF_OUR_SESSION" not in process.env
    assert Path(process.cwd) == instance.folder
    assert os.getsid(process.pid) == process.pid, "it must outlive the session that started it"
    assert instance.log.read_text() == "serving\nserving\n", "its output goes to the same file"
    assert instance.events[0]["event"] == "restarting"


def test_a_watchdog_restarts_it(instance: FakeComfyui) -> None:
    loop = f"while :; do {sys.executable} main.py --port {instance.port} >> {instance.log} 2>&1; done"
    with subprocess.Popen(["sh", "-c", loop], cwd=instance.folder) as watcher:
        try:
            instance.wait_for(lambda: instance.found().process is not None and instance.service().is_up())
            service.RESPAWN_TIMEOUT = 10.0
            before = instance.found().process
            instance.service().restart(instance.on_event)
            after = instance.found().process
            assert before is not None
            assert after is not None
            assert (after.pid != before.pid, after.parent) == (True, watcher.pid)
        finally:
            watcher.kill()
    assert instance.events[-1]["text"] == "it was restarted by its watchdog"


def test_an_immediate_exit_is_reported_with_the_last_output(
    instance: FakeComfyui, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "START_TIMEOUT", 1.0)
    instance.start()
    (instance.folder / "main.py").write_text("import sys; sys.exit('no good')\n")
    with pytest.raises(CheckError, match=r"ComfyUI exited immediately: .*no good"):
        instance.service().restart(instance.on_event)


def test_the_first_process_is_never_stopped(instance: FakeComfyui) -> None:
    pid = instance.start()
    with pytest.raises(CheckError, match="keeps this instance alive") as raised:
        instance.service(LaunchMethod("first process")).restart(instance.on_event)
    assert "restart the instance yourself" in raised.value.next_step
    process = instance.found().process
    assert process is not None
    assert process.pid == pid


def test_by_a_control_program(instance: FakeComfyui, tmp_path: Path) -> None:
    control = tmp_path / "supervisorctl"
    python(control)
    control.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    one = instance.service(LaunchMethod("supervisord", "comfyui", (str(control), "-c", "x")))
    one.mark_restart_pending()
    one.restart(instance.on_event)
    assert (tmp_path / "calls").read_text() == "-c x restart comfyui\n"
    assert not one.restart_pending()
    control.write_text("#!/bin/sh\necho 'comfyui: ERROR (no such process)'; exit 1\n")
    with pytest.raises(CheckError, match=r"supervisord \(comfyui\): comfyui: ERROR"):
        one.restart(instance.on_event)


def test_missing_classes_after_the_restart_are_reported(instance: FakeComfyui) -> None:
    instance.start()
    one = instance.service(BY_HAND, "ETN_A", "Lacks")
    assert one.is_up(), "the tooling nodes are installed"
    with pytest.raises(CheckError, match="lacks node classes that Krita needs: Lacks") as raised:
        one.wait_ready(instance.on_event, all_repaired=True)
    assert "IMPORT FAILED" in raised.value.next_step


def test_a_comfyui_with_no_saved_start_is_started_with_defaults(instance: FakeComfyui) -> None:
    argv, cwd, env = instance.service()._start_command(None)
    assert argv[1:2] == ["main.py"]
    assert cwd == instance.folder
    assert not [name for name in env if name.startswith(("SSH_", "GESSO_"))]


@pytest.mark.parametrize("repaired", [True, False])
def test_there_is_no_agent_whose_state_would_count(instance: FakeComfyui, repaired: bool) -> None:
    """Nothing runs here, and no run folder exists."""
    instance.service().confirm(repaired=repaired)
    assert instance.events == []
