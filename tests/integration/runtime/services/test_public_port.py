"""Asking through the public port, with a small server in the place of the gate: who is given the token."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.runtime.gate import caddy, tokens
from gesso.runtime.services import ports, public_port
from gesso.runtime.services.public_port import Answer
from tests.local_server import answering

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gesso.runtime.layout import Layout

TOKEN = "Zx8-kD3_vQ7wLm2pRt5Y"
PATH = f"/{TOKEN}/prompt"


@dataclass
class Gate:
    """What the server answers, and the requests that it saw. `late`: paths that get no answer in time."""

    identity: str = ""
    status: int = 200
    body: bytes = b'{"exec_info": {"queue_remaining": 2}}'
    anonymous: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    half: bool = False
    port: int = 0
    seen: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def gate(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setattr(public_port, "_TIMEOUT", 0.3)
    caddy.configure(layout, {"GESSO_TOKEN": TOKEN})
    gate = Gate(tokens.instance_id(layout))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            gate.seen.append(self.path)
            if self.path in gate.late:
                gate.over.wait(5)
            self.send_response(401 if self.path == "/" else gate.status)
            if gate.identity and self.path not in gate.anonymous:
                self.send_header(public_port.INSTANCE_HEADER, gate.identity)
            body = b"" if self.path == "/" else gate.body
            self.send_header("Content-Length", str(len(body) + 9 * (gate.half and bool(body))))
            self.end_headers()
            self.wfile.write(body)
            if gate.half and body:
                gate.over.wait(5)

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

    with answering(Handler) as gate.port:
        yield gate
        gate.over.set()


def _ask(layout: Layout, gate: Gate, *, identify: bool = True) -> Answer:
    return public_port.ask(layout, "/prompt", identify=identify, port=gate.port)


def test_this_instance_gets_the_token_once_it_has_identified_itself(layout: Layout, gate: Gate) -> None:
    assert _ask(layout, gate) == Answer(200, {"exec_info": {"queue_remaining": 2}})
    assert gate.seen == ["/", PATH]


def test_a_known_gate_is_asked_at_once(layout: Layout, gate: Gate) -> None:
    assert _ask(layout, gate, identify=False).status == 200
    assert gate.seen == [PATH]


@pytest.mark.parametrize("identity", ["", "0" * 32])
def test_another_server_gets_no_token(layout: Layout, gate: Gate, identity: str) -> None:
    gate.identity = identity
    with pytest.raises(
        CheckError, match=f"port {gate.port} is not answered by this instance; it is held by `"
    ) as raised:
        _ask(layout, gate)
    assert gate.seen == ["/"]
    assert "(process " in raised.value.message
    assert raised.value.next_step.startswith("end that program, or run this container in a network namespace")


def test_without_an_identity_of_its_own_nobody_is_given_the_token(layout: Layout, gate: Gate) -> None:
    gate.identity = " "  # an empty header
    (layout.run / "instance-id").unlink()
    with pytest.raises(CheckError, match="not answered by this instance"):
        _ask(layout, gate)
    assert gate.seen == ["/"]


def test_the_holder_may_be_unknown(layout: Layout, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    gate.identity = ""
    monkeypatch.setattr(ports, "holder", lambda _: "")
    with pytest.raises(CheckError, match="is not answered by this instance\n"):
        _ask(layout, gate)


def test_an_answer_that_is_not_from_this_instance(layout: Layout, gate: Gate) -> None:
    gate.anonymous = {PATH}
    with pytest.raises(CheckError, match="not answered by this instance"):
        _ask(layout, gate, identify=False)


def test_nothing_listens(layout: Layout, gate: Gate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(CheckError, match=f"^the gate does not listen on port {port}\n") as raised:
        public_port.ask(layout, "/prompt", port=port)
    assert raised.value.next_step == "`gesso logs gate` shows why; it is restarted"


def test_something_listens_and_says_nothing(layout: Layout, gate: Gate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        port = frozen.getsockname()[1]
        with pytest.raises(
            CheckError, match=rf"^port {port} does not answer: timed out; it is held by `.*` \(process "
        ):
            public_port.ask(layout, "/prompt", port=port)


def test_something_does_not_speak_http(layout: Layout, gate: Gate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(9999)
                connection.sendall(b"220 mail.example.org ESMTP\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(CheckError, match="does not answer: 220 mail"):
            public_port.ask(layout, "/prompt", port=server.getsockname()[1])
        thread.join()


@pytest.mark.parametrize("identify", [True, False])
@pytest.mark.parametrize("half", [True, False], ids=["half an answer", "no answer"])
def test_a_late_answer_of_comfyui_is_a_504_if_the_gate_itself_answers(
    layout: Layout, gate: Gate, identify: bool, half: bool
) -> None:
    gate.late, gate.half = (set() if half else {PATH}), half
    started = time.monotonic()
    assert _ask(layout, gate, identify=identify) == Answer(504)
    assert gate.seen == [*["/"] * identify, PATH, "/"]
    assert time.monotonic() - started < 3


def test_a_late_answer_with_another_gate_is_none(layout: Layout, gate: Gate) -> None:
    gate.late, gate.anonymous = {PATH}, {"/"}
    with pytest.raises(CheckError, match="not answered by this instance"):
        _ask(layout, gate, identify=False)
    gate.late.add("/")
    with pytest.raises(CheckError, match="does not answer: timed out"):
        _ask(layout, gate, identify=False)


def test_the_own_token_is_refused(layout: Layout, gate: Gate) -> None:
    gate.status = 401
    with pytest.raises(CheckError, match=f"^the gate on port {gate.port} refuses the instance's own token\n") as raised:
        _ask(layout, gate)
    assert raised.value.next_step == "`gesso heal` repairs it"


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff"])
def test_an_answer_without_json(layout: Layout, gate: Gate, body: bytes) -> None:
    gate.status, gate.body = 502, body
    assert _ask(layout, gate) == Answer(502, None)
