"""The programs that the image starts: the health check, the watchdog, and the gate's launcher."""

from __future__ import annotations

import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.image_programs import BIN, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n{"ok": true, "problems": []}'
ILL = b'HTTP/1.1 503 Service Unavailable\r\n\r\n{"ok": false, "problems": ["failed: no network"]}'


@dataclass
class Agent:
    """What the agent's socket answers; with None it accepts, and never answers."""

    answer: bytes | None = OK
    seen: list[bytes] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def _answering(folder: Path, agent: Agent) -> Iterator[None]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            request = self.request.recv(9999)
            if request:
                agent.seen.append(request)
                if agent.answer is None:
                    agent.over.wait(10)
                else:
                    self.request.sendall(agent.answer)

    with socketserver.ThreadingUnixStreamServer(str(folder / "agent.sock"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            agent.over.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent()
    with _answering(tmp_path, agent):
        yield agent


# --- health.py


def _health(folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-BESs", str(BIN / "health.py")], env={"GESSO_RUN": str(folder)}, capture_output=True,
        text=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_healthy(tmp_path: Path, agent: Agent) -> None:
    assert _health(tmp_path) == (0, '{"ok": true, "problems": []}\n')
    assert agent.seen == [b"GET /health HTTP/1.0\r\nHost: agent\r\n\r\n"]


def test_not_healthy(tmp_path: Path, agent: Agent) -> None:
    agent.answer = ILL
    assert _health(tmp_path) == (1, '{"ok": false, "problems": ["failed: no network"]}\n')


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1", b"HTTP/1.1 x\r\n\r\n", b"\xff\xfe \xff"])
def test_an_answer_that_is_none_is_not_healthy(tmp_path: Path, agent: Agent, answer: bytes) -> None:
    agent.answer = answer
    assert _health(tmp_path) == (1, "the agent does not answer\n")


def test_without_an_agent_it_is_not_healthy(tmp_path: Path) -> None:
    assert _health(tmp_path) == (1, "the agent does not answer\n")
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(tmp_path / "agent.sock"))
    assert _health(tmp_path) == (1, "the agent does not answer\n")


# --- agent.py


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GESSO_RUN", str(tmp_path))
    return load("agent", monkeypatch)


def test_a_frozen_agent_gives_no_answer(client: Any, agent: Agent) -> None:
    agent.answer = None
    started = time.monotonic()
    assert client.ask("/alive", 0.1) == (0, "")
    assert time.monotonic() - started < 3


def test_a_long_answer_is_read_to_its_end(client: Any, agent: Agent) -> None:
    body = b"x" * 300_000
    agent.answer = b"HTTP/1.0 200 OK\r\n\r\n" + body
    assert client.ask("/state", 5.0) == (200, body.decode())


def test_the_run_folder_may_be_in_memory(
    client: Any, agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GESSO_RUN")
    assert client.folders() == ["/run/gesso", f"/dev/shm/gesso-{os.geteuid()}"]
    (tmp_path / "stale").mkdir()
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(tmp_path / "stale/agent.sock"))
    for first in ("missing", "stale"):
        monkeypatch.setattr(client, "folders", lambda first=first: [str(tmp_path / first), str(tmp_path)])
        assert client.ask("/alive", 5.0)[0] == 200


# --- watchdog.py

# An agent that listens, and freezes (or answers) as the first argument says; the second is its queue.
AGENT = """
import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(int(sys.argv[3]))
print("up", flush=True)
if sys.argv[2] == "frozen":
    time.sleep(60)
while True:
    connection, _ = listener.accept()
    if connection.recv(9999):
        connection.sendall(b"HTTP/1.0 %s x\\r\\n\\r\\n" % sys.argv[2].encode())
    connection.close()
"""
WATCHDOG = f"""
import sys
sys.path.insert(0, {str(BIN)!r})
import watchdog
watchdog.TIMEOUT = 0.1
watchdog.main()
"""


@contextmanager
def _program(code: str, *arguments: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    program = subprocess.Popen(
        [sys.executable, "-BSs", "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})},
    )  # fmt: skip
    try:
        yield program
    finally:
        program.kill()
        program.wait()
        for pipe in (program.stdin, program.stdout, program.stderr):
            assert pipe is not None
            pipe.close()


@contextmanager
def _agent(folder: Path, how: str, queue: int = 100) -> Iterator[subprocess.Popen[str]]:
    (folder / "agent.sock").unlink(missing_ok=True)
    with _program(AGENT, str(folder / "agent.sock"), how, str(queue)) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "up\n"
        yield program


class Events:
    """supervisord's side of the protocol."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        assert program.stdin is not None
        assert program.stdout is not None
        self.program, self.stdin, self.stdout = program, program.stdin, program.stdout
        assert self.stdout.readline() == "READY\n"

    def tick(self) -> None:
        """Send an event, and wait until the watchdog has handled it and is ready for the next one."""
        body = "when:1201063880"
        self.stdin.write(
            f"ver:3.0 server:supervisor serial:1 pool:watchdog poolserial:1 eventname:TICK_5 len:{len(body)}\n"
        )
        self.stdin.write(body)
        self.stdin.flush()
        assert self.stdout.read(len("RESULT 2\nOK")) == "RESULT 2\nOK"
        assert self.stdout.readline() == "READY\n"


@pytest.fixture
def events(tmp_path: Path) -> Iterator[Events]:
    with _program(WATCHDOG, env={"GESSO_RUN": str(tmp_path)}) as program:
        yield Events(program)


def test_an_agent_that_answers_lives(tmp_path: Path, events: Events) -> None:
    with _agent(tmp_path, "200") as agent:
        for _ in range(5):
            events.tick()
        assert agent.poll() is None


@pytest.mark.parametrize("how", ["frozen", "503"])
def test_an_agent_that_does_not_react_is_killed(tmp_path: Path, events: Events, how: str) -> None:
    with _agent(tmp_path, how) as agent:
        for _ in range(2):
            events.tick()
        assert agent.poll() is None
        events.tick()
        assert agent.wait(10) == -signal.SIGKILL
        assert events.program.stderr is not None
        assert events.program.stderr.readline() == (
            f"watchdog: the agent (process {agent.pid}) does not react; it is killed and restarted\n"
        )
    events.tick()  # nobody listens
    with _agent(tmp_path, how) as agent:  # the next one
        for _ in range(2):
            events.tick()
        assert agent.poll() is None
        events.tick()
        assert agent.wait(10) == -signal.SIGKILL


def test_a_frozen_agent_whose_queue_is_full_is_killed(tmp_path: Path, events: Events) -> None:
    """Caddy goes on asking it."""
    with _agent(tmp_path, "frozen", queue=2) as agent:
        for _ in range(3):  # from the second one on, the watchdog's own connections have filled the queue
            events.tick()
        assert agent.wait(10) == -signal.SIGKILL


def test_without_an_agent_nothing_happens(events: Events) -> None:
    for _ in range(5):
        events.tick()


def test_it_ends_with_supervisord(events: Events) -> None:
    events.stdin.close()
    assert events.program.wait(10) == 0


# --- gate.py

GATE = f"""
import sys
sys.path.insert(0, {str(BIN)!r})
import gate
gate.NAME = "\\0" + sys.argv[1]
gate.main(sys.argv[2:])
"""


def test_one_gate_in_a_network_namespace(tmp_path: Path) -> None:
    name = f"gesso-test-{os.getpid()}-{tmp_path.name}"
    with _program(GATE, name, "cat") as first:
        assert first.stdin is not None
        assert first.stdout is not None
        first.stdin.write("up\n")
        first.stdin.flush()
        assert first.stdout.readline() == "up\n"  # it has become the program, and holds the name
        with _program(GATE, name, "echo", "started") as second:
            assert second.communicate() == ("", "gate: another instance in this network namespace has port 8188\n")
            assert second.returncode == 1
        with _program(GATE, f"{name}-other", "echo", "started") as other:
            assert other.communicate()[0] == "started\n"
        first.kill()
        first.wait()
        with _program(GATE, name, "echo", "started") as third:
            assert third.communicate() == ("started\n", "")


def test_the_name_is_that_of_the_public_port(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("gate", monkeypatch).NAME == "\0gesso-gate-8188"
