"""What the connections of one fetch share; one loopback server shows that a client and a wire do as they say."""

from __future__ import annotations

import hashlib
import http.server
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gesso.models.download import unknown_length
from gesso.models.download.unknown_length import receive_unmeasured
from gesso.models.faults import ContentError, SourceError
from gesso.models.net.client import Client
from gesso.models.net.http import AGENT, HttpConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Fake:
    """A wire, or a source's wire, that gives these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces, self.shuts, self.stall = list(pieces), 0, 30.0

    def shut(self) -> None:
        self.shuts += 1

    def read_into(self, view: memoryview) -> int:
        piece = self.pieces.pop(0) if self.pieces else b""
        view[: len(piece)] = piece
        return len(piece)


def test_to_stop_shuts_every_wire_that_is_in_and_no_other() -> None:
    client = Client({})
    inside, outside = Fake(), Fake()
    for wire in (inside, outside):
        client.enter(wire)
    client.leave(outside)
    client.leave(outside)
    client.stop()
    assert client.stopped
    assert (inside.shuts, outside.shuts) == (1, 0)


def test_one_tls_context_is_made_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl.create_default_context", object)  # each call makes another
    client = Client({})
    assert client.tls() is client.tls()


# ── a body of which nobody knows the length ──


class Body:
    """A source, as far as the unmeasured body needs one."""

    def __init__(self, head: bytes, *pieces: bytes) -> None:
        self.head, self.wire = bytearray(head), Fake(*pieces)


def received(tmp_path: Path, body: Any) -> tuple[str, bytes, list[int]]:
    told: list[int] = []
    with (tmp_path / "f").open("w+b") as file:
        digest = receive_unmeasured(body, file.fileno(), told.append)
        return digest, os.pread(file.fileno(), 1 << 20, 0), told


def test_an_unmeasured_body_is_written_and_hashed(tmp_path: Path) -> None:
    digest, data, told = received(tmp_path, Body(b"head", b"and ", b"tail"))
    assert data == b"headand tail"
    assert digest == hashlib.sha256(data).hexdigest()
    assert told == [8, 12]


def test_an_unmeasured_body_without_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknown_length, "MOST", 10)
    assert received(tmp_path, Body(b"", b"x" * 10))[1] == b"x" * 10
    with pytest.raises(ContentError, match="no end after 11 bytes") as caught:
        received(tmp_path, Body(b"", b"x" * 10, b"x", b"x"))
    assert caught.value.why == "oversized"
    assert "size" in caught.value.next_step


def test_an_unmeasured_body_leaves_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        f_bavail, f_frsize = unknown_length._LEAVE_FREE // 4096, 4096

    monkeypatch.setattr(os, "fstatvfs", lambda _: Full)
    with pytest.raises(ContentError):
        received(tmp_path, Body(b"", b"x"))


# ── the wire ──


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, tuple[int, dict[str, str], bytes]]], tuple[str, list[dict[str, str]]]]]:
    """Serve these answers by path; give the address and what was asked."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def serve(answers: dict[str, tuple[int, dict[str, str], bytes]]) -> tuple[str, list[dict[str, str]]]:
        asked: list[dict[str, str]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked.append({"path": self.path, **self.headers})
                status, headers, body = answers[self.path]
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", asked

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def wire() -> Iterator[HttpConnection]:
    wire = HttpConnection(Client({"HF_TOKEN": "hf_secret"}, connect=5, stall=5))
    yield wire
    wire.leave()


def test_a_get_says_who_asks_and_for_which_part(serve: Any, wire: HttpConnection) -> None:
    url, asked = serve({"/f?a=1": (206, {"Content-Range": "bytes 2-4/9"}, b"abc")})
    found = wire.get(f"{url}/f?a=1", start=2, end=5)
    assert (found.range, found.length, found.url) == ((2, 5, 9), 3, f"{url}/f?a=1")
    buffer = bytearray(9)
    assert wire.read_into(memoryview(buffer)) == 3
    assert (bytes(buffer[:3]), wire.busy, wire.read_into(memoryview(buffer))) == (b"abc", False, 0)
    assert (asked[0]["Range"], asked[0]["User-Agent"]) == ("bytes=2-4", AGENT)
    assert asked[0]["Accept-Encoding"] == "identity"
    assert "Authorization" not in asked[0]


@pytest.mark.parametrize(
    "target",
    [
        "", "http://10.0.0.1/f", "https://[::1", "https://[nonsense]/f", "http://host:port/f", "//[/x",
        "file:///etc/passwd", "/a b",
    ],
)  # fmt: skip
def test_wherever_a_redirect_leads_it_is_followed_or_a_source_error(
    serve: Any, wire: HttpConnection, target: str
) -> None:
    url, _ = serve({"/f": (302, {"Location": target}, b"")})
    with pytest.raises(SourceError) as caught:
        wire.get(f"{url}/f")
    assert caught.value.why in {"bad-redirect", "insecure", "private-address"}


def test_the_token_is_left_behind_at_a_redirect_to_another_port(serve: Any) -> None:
    there, asked_there = serve({"/cdn": (200, {}, b"ok")})
    here, asked_here = serve({"/org/repo/resolve/main/f": (302, {"Location": f"{there}/cdn"}, b"")})
    own = HttpConnection(Client({"HF_TOKEN": "hf_secret", "HF_ENDPOINT": here}, connect=5, stall=5))
    found = own.get(f"{here}/org/repo/resolve/main/f")
    own.leave()
    assert found.url == f"{there}/cdn"
    assert asked_here[0]["Authorization"] == "Bearer hf_secret"
    assert "Authorization" not in asked_there[0]


def test_redirects_in_a_circle_end(serve: Any, wire: HttpConnection) -> None:
    url, asked = serve({"/f": (302, {"Location": "/f"}, b"")})
    with pytest.raises(SourceError, match="redirects"):
        wire.get(f"{url}/f")
    assert len(asked) < 20


def test_a_mirror_that_is_no_address_is_a_source_error(serve: Any) -> None:
    url, _ = serve({"/f": (200, {}, b"ok")})
    own = HttpConnection(Client({"HF_TOKEN": "hf_secret", "HF_ENDPOINT": "https://mirror.example:port"}))
    try:
        own.get(f"{url}/f")  # it may also do without the token: what it must not do is to fall over
    except SourceError as fault:
        assert "HF_ENDPOINT" in str(fault)  # noqa: PT017
    finally:
        own.leave()
