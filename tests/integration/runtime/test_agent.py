"""The agent's web server: it sleeps until a request or a signal, and ends at once on a signal."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from gesso.runtime import unix_http
from gesso.runtime.agent import _Server
from gesso.runtime.unix_http import UnixConnection

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
# As the agent runs it: an event stream that ends only when the server stops.
PROGRAM = """
import asyncio, pathlib, sys, threading
import uvicorn
from gesso.runtime import unix_http
from gesso.runtime.agent import _Server

stop = threading.Event()

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while scope["path"] == "/events" and not stop.is_set():
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b""})

config = uvicorn.Config(app, ws="none", lifespan="off", access_log=False, log_level="error",
                        timeout_graceful_shutdown=1, loop="asyncio")
with unix_http.listen(pathlib.Path(sys.argv[1])) as listener:
    print("up", flush=True)
    _Server(config, stop).run(sockets=[listener])
print("ended", stop.is_set(), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("path", ["/events", "/state", None])
def test_a_signal_ends_it(tmp_path: Path, number: signal.Signals, path: str | None) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "up\n"
        connection = UnixConnection(tmp_path / "s", 10.0)
        connection.request("GET", path or "/")
        answer = connection.getresponse()
        assert answer.status == 200
        if path == "/events":
            assert answer.read(1) == b"x"
        else:
            answer.read()
        if path is None:
            connection.close()
        started = time.monotonic()
        program.send_signal(number)
        assert program.wait(10) == -number  # uvicorn ends by the signal itself, once everything is closed
        assert time.monotonic() - started < 3
        connection.close()
    finally:
        program.kill()
        program.communicate()


async def _app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Ticking(_Server):
    ticks = 0

    async def on_tick(self, counter: int) -> bool:
        Ticking.ticks += 1
        return await super().on_tick(counter)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[_Server, threading.Event, threading.Thread, Path]]:
    Ticking.ticks = 0
    stop = threading.Event()
    config = uvicorn.Config(_app, ws="none", lifespan="off", access_log=False, log_level="error", loop="asyncio")
    server = Ticking(config, stop)
    with unix_http.listen(tmp_path / "s") as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield server, stop, thread, tmp_path / "s"
        if thread.is_alive():
            server.handle_exit(signal.SIGTERM, None)
        thread.join()


def test_it_sleeps_until_a_signal(running: tuple[_Server, threading.Event, threading.Thread, Path]) -> None:
    server, stop, thread, path = running
    for _ in range(2):
        connection = UnixConnection(path, 10.0)
        connection.request("GET", "/")
        assert connection.getresponse().status == 204
        connection.close()
        time.sleep(0.15)
    assert Ticking.ticks == 0  # uvicorn's own loop would have had three
    assert thread.is_alive()
    assert not stop.is_set()
    started = time.monotonic()
    server.handle_exit(signal.SIGTERM, None)
    thread.join(10)
    assert not thread.is_alive()
    assert stop.is_set()
    assert time.monotonic() - started < 3


def test_a_signal_before_it_is_up_ends_it(tmp_path: Path) -> None:
    stop = threading.Event()
    config = uvicorn.Config(_app, ws="none", lifespan="off", access_log=False, log_level="error", loop="asyncio")
    server = _Server(config, stop)
    server.handle_exit(signal.SIGTERM, None)
    with unix_http.listen(tmp_path / "s") as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        thread.join(10)
    assert not thread.is_alive()
    assert stop.is_set()
