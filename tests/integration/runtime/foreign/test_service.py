"""ComfyUI started again the way it was: real processes that are called main.py, and answer as much as is asked."""

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
from gesso.runtime.foreign.launch_method import Manner
from gesso.runtime.foreign.paths import Foreign
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
HAND = Manner("by hand")


def record(*classes: str) -> Record:
    return Record("sdxl", "t", False, classes, {}, {}, {})


class House:
    """A ComfyUI in a folder, and whatever of it runs at the end is ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = comfyui(folder / "ComfyUI")
        (self.folder / "main.py").write_text(MAIN)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.layout = Foreign(kept=folder / "kept", run=folder / "kept/run", port=self.port, comfyui=self.folder)
        self.log = folder / "comfy.log"
        self.told: list[dict[str, Any]] = []

    def start(self, **env: str) -> int:
        with self.log.open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "main.py", "--port", str(self.port)], cwd=self.folder, stdout=log, stderr=log,
                env={**os.environ, **env}, start_new_session=True,
            )  # fmt: skip
        started.returncode = 0  # it is not ours to wait for
        self.wait_for(lambda: service.Handmade(self.layout, record("ETN_A"), self.found(), HAND).up())
        return started.pid

    def wait_for(self, true: Any) -> None:
        deadline = time.monotonic() + 20
        while not true():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def found(self) -> discover.Found:
        return discover.find(str(self.folder))

    def service(self, how: Manner = HAND, *classes: str) -> service.Handmade:
        return service.Handmade(self.layout, record(*(classes or ("ETN_A",))), self.found(), how)

    def tell(self, event: str, **facts: Any) -> None:
        self.told.append({"event": event, **facts})

    def end(self) -> None:
        for process in discover.running():
            if process.main is not None and process.main.parent == self.folder:
                os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(service, "BY_ITSELF", 0.3)
    made = House(tmp_path)
    yield made
    made.end()


def test_by_hand_it_comes_back_as_it_was(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = house.start(MINE="kept")
    monkeypatch.setenv("OF_OUR_SESSION", "1")
    one = house.service()
    one.owe()
    assert one.due()
    one.restart(house.tell)
    one.settle(house.tell, whole=True)
    assert not one.due()
    process = house.found().process
    assert process is not None
    assert process.pid != pid
    assert process.argv == (sys.executable, "main.py", "--port", str(house.port))
    assert process.env["MINE"] == "kept"
    assert "OF_OUR_SESSION" not in process.env
    assert Path(process.cwd) == house.folder
    assert os.getsid(process.pid) == process.pid, "it must outlive the session that started it"
    assert house.log.read_text() == "serving\nserving\n", "its output goes where it went"
    assert house.told[0]["event"] == "restarting"


def test_what_watches_it_starts_it_and_we_do_not(house: House) -> None:
    loop = f"while :; do {sys.executable} main.py --port {house.port} >> {house.log} 2>&1; done"
    with subprocess.Popen(["sh", "-c", loop], cwd=house.folder) as watcher:
        try:
            house.wait_for(lambda: house.found().process is not None and house.service().up())
            service.BY_ITSELF = 10.0
            before = house.found().process
            house.service().restart(house.tell)
            after = house.found().process
            assert before is not None
            assert after is not None
            assert (after.pid != before.pid, after.parent) == (True, watcher.pid)
        finally:
            watcher.kill()
    assert house.told[-1]["text"] == "it was started again by what watches it"


def test_one_that_ends_at_once_is_told_with_its_last_words(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "STARTING", 1.0)
    house.start()
    (house.folder / "main.py").write_text("import sys; sys.exit('no good')\n")
    with pytest.raises(CheckError, match=r"ComfyUI ended at once: .*no good"):
        house.service().restart(house.tell)


def test_the_first_process_is_never_ended(house: House) -> None:
    pid = house.start()
    with pytest.raises(CheckError, match="keeps this instance alive") as raised:
        house.service(Manner("first process")).restart(house.tell)
    assert "restart the instance yourself" in raised.value.next_step
    process = house.found().process
    assert process is not None
    assert process.pid == pid


def test_by_a_control_program(house: House, tmp_path: Path) -> None:
    control = tmp_path / "supervisorctl"
    python(control)
    control.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n')
    one = house.service(Manner("supervisord", "comfyui", (str(control), "-c", "x")))
    one.owe()
    one.restart(house.tell)
    assert (tmp_path / "said").read_text() == "-c x restart comfyui\n"
    assert not one.due()
    control.write_text("#!/bin/sh\necho 'comfyui: ERROR (no such process)'; exit 1\n")
    with pytest.raises(CheckError, match=r"supervisord \(comfyui\): comfyui: ERROR"):
        one.restart(house.tell)


def test_classes_that_lack_afterwards_are_named(house: House) -> None:
    house.start()
    one = house.service(HAND, "ETN_A", "Lacks")
    assert one.up(), "the tooling nodes are there"
    with pytest.raises(CheckError, match="lacks node classes that Krita needs: Lacks") as raised:
        one.settle(house.tell, whole=True)
    assert "IMPORT FAILED" in raised.value.next_step


def test_one_that_was_never_seen_is_started_by_its_defaults(house: House) -> None:
    words, cwd, env = house.service()._as_before(None)
    assert words[1:2] == ["main.py"]
    assert cwd == house.folder
    assert not [name for name in env if name.startswith(("SSH_", "GESSO_"))]
