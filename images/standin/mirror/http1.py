"""HTTP/1.1 on sockets: read requests, and write responses, also malformed ones that a library would refuse to write.

A `Response` is what is sent, a `Delivery` how: how fast, in which pieces, and whether the connection breaks
meanwhile. Faults change the one or the other, so they can be combined.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import struct
import termios
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Literal

PIECE = 256 << 10
SENDFILE = 4 << 20
LONGEST_HEAD = 64 << 10
TINY = (1, 1024, 3, 512, 2, 97, 256, 7)  # sizes of segments, repeated: the same in every run

Ending = Literal["", "close", "reset", "stall"]
Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Header names are lowercase; `path` is decoded and without the query."""

    method: str
    target: str
    version: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return urllib.parse.unquote(urllib.parse.urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.target).query))


@dataclass(frozen=True, slots=True)
class Body:
    """A part of a file, in memory or on disk, never read at once. Beyond the file's end, `filler` is repeated."""

    data: bytes | Path = b""
    start: int = 0
    length: int = 0
    filler: bytes = b"\0"
    flips: tuple[int, ...] = ()
    mask: int = 0

    @classmethod
    def text(cls, text: str | bytes) -> Body:
        """Return a body with this text."""
        data = text.encode() if isinstance(text, str) else text
        return cls(data, 0, len(data))

    def on_disk(self) -> bool:
        """Return whether the kernel can send the file unchanged (sendfile)."""
        modified = self.flips or self.mask
        return isinstance(self.data, Path) and not modified and self.start + self.length <= self.data.stat().st_size

    def pieces(self, *sizes: int) -> Iterator[bytes]:
        """Read the body in pieces of these sizes, repeated."""
        end, at, mask = self.start + self.length, self.start, bytes(byte ^ self.mask for byte in range(256))
        file = self.data.open("rb") if isinstance(self.data, Path) else None
        try:
            if file:
                file.seek(at)
            for size in itertools.cycle(sizes):
                if at >= end:
                    return
                size = min(size, end - at)  # noqa: PLW2901
                piece = file.read(size) if file else self.data[at : at + size]  # type: ignore[index]
                if len(piece) < size:
                    lead = (at + len(piece)) % len(self.filler)
                    padding = self.filler * ((size - len(piece)) // len(self.filler) + 2)
                    piece += padding[lead : lead + size - len(piece)]
                if self.mask:
                    piece = piece.translate(mask)
                for flip in self.flips:
                    if at <= flip < at + size:
                        piece = piece[: flip - at] + bytes([piece[flip - at] ^ 0xFF]) + piece[flip - at + 1 :]
                at += size
                yield piece
        finally:
            if file:
                file.close()

    def read(self) -> bytes:
        """Read the whole body."""
        return b"".join(self.pieces(PIECE))


@dataclass(slots=True)
class Response:
    """What is sent. Content-Length is added when sending, unless it is set, or `lengthless`."""

    status: int
    headers: Headers
    body: Body
    version: str = "HTTP/1.1"
    chunked: bool = False
    lengthless: bool = False

    def put(self, name: str, value: str) -> None:
        """Set a header; replace all of that name."""
        self.drop(name)
        self.headers.append((name, value))

    def drop(self, name: str) -> None:
        """Remove every header of that name."""
        self.headers = [(key, value) for key, value in self.headers if key.lower() != name.lower()]

    def get(self, name: str) -> str | None:
        """Return the first header of that name, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def without_body(self, method: str) -> bool:
        """Return whether the standard forbids a body here."""
        return method == "HEAD" or self.status in {204, 304} or self.status < 200


@dataclass(slots=True)
class Delivery:
    """How it is sent."""

    prefix: bytes = b""  # before the status line
    raw_bytes: bytes | None = None  # instead of status line, headers and body
    edit_head: Callable[[bytes], bytes] | None = None  # applied to the complete head
    silent: bool = False  # nothing is sent before `ending`
    delay: float = 0  # seconds before the first byte
    rate: float | None = None  # bytes of body a second
    slow_head: float | None = None  # bytes of head a second
    sizes: tuple[int, ...] = ()  # of segments
    cut_at: int | None = None  # bytes of body before `ending`
    ending: Ending = ""
    pause: tuple[int, float] | None = None  # (bytes of body before it, its seconds)
    endless: bool = False  # the body never ends
    chunk_line: bytes | None = None  # instead of the size of every chunk


class RequestReader:
    """Reads the requests of one connection, with a buffer."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""

    def request(self) -> Request | None:
        """Read the next request; None if the client has disconnected, or does not send HTTP."""
        while b"\r\n\r\n" not in self._rest:
            if not (more := self._sock.recv(16 << 10)) or len(self._rest) > LONGEST_HEAD:
                return None
            self._rest += more
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").lstrip("\r\n").split("\r\n")
        if first.count(" ") != 2:
            return None
        method, target, version = first.split(" ")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        length = headers.get("content-length", "0")
        return Request(method, target, version, headers, self._exactly(int(length) if length.isdigit() else 0))

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            if not (more := self._sock.recv(16 << 10)):
                raise ConnectionError("the client has disconnected")
            self._rest += more
        body, self._rest = self._rest[:size], self._rest[size:]
        return body


@dataclass(slots=True)
class ResponseWriter:
    """Sends one response; `count` is called with the bytes of the body just before they are sent."""

    sock: socket.socket
    stopping: threading.Event
    count: Callable[[int], None]
    encrypted: bool = False
    _sent: int = field(default=0, init=False)

    def send(self, response: Response, delivery: Delivery, method: str, *, close: bool) -> bool:
        """Send it; return whether the connection can serve another request."""
        self.stopping.wait(delivery.delay)
        if delivery.silent:
            return self._end(delivery.ending or "close")
        self.sock.sendall(delivery.prefix)
        if delivery.raw_bytes is not None:
            self.sock.sendall(delivery.raw_bytes)
            return self._end(delivery.ending or "close")
        open_ended = (response.lengthless or delivery.endless) and not response.chunked
        close = close or response.version != "HTTP/1.1" or (open_ended and not response.without_body(method))
        self._head(response, delivery, close=close)
        if not response.without_body(method):
            self._body(response, delivery)
            if delivery.ending:
                return self._end(delivery.ending)
        return self._end("close") if close else True

    def _head(self, response: Response, delivery: Delivery, *, close: bool) -> None:
        bodyless = response.status in {204, 304} or response.status < 200
        if response.chunked:
            response.put("Transfer-Encoding", "chunked")
        elif not (bodyless or response.lengthless or delivery.endless or response.get("Content-Length") is not None):
            response.put("Content-Length", str(response.body.length))
        if response.version == "HTTP/1.1" and response.get("Connection") is None:
            response.put("Connection", "close" if close else "keep-alive")
        phrases = {status.value: status.phrase for status in HTTPStatus}
        lines = [f"{response.version} {response.status} {phrases.get(response.status, 'Odd')}"]
        lines += [f"{name}: {value}" for name, value in response.headers]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        head = delivery.edit_head(head) if delivery.edit_head else head
        if delivery.slow_head:
            self._slowly((head[at : at + 1] for at in range(len(head))), delivery.slow_head)
        else:
            for piece in Body.text(head).pieces(*(delivery.sizes or (len(head),))):
                self.sock.sendall(piece)

    def _slowly(self, pieces: Iterator[bytes], rate: float) -> None:
        for piece in pieces:
            self.sock.sendall(piece)
            if self.stopping.wait(len(piece) / rate):
                raise ConnectionAbortedError("the mirror stops")

    def _body(self, response: Response, delivery: Delivery) -> None:
        body, began = response.body, time.monotonic()
        if delivery.pause and not delivery.pause[0]:
            self.stopping.wait(delivery.pause[1])
        limit = body.length if delivery.cut_at is None else max(0, min(body.length, delivery.cut_at))
        unmodified = not (self.encrypted or response.chunked or delivery.rate or delivery.sizes or delivery.pause)
        if unmodified and body.on_disk():
            self._sendfile(body, limit)
        else:
            cut = Body(body.data, body.start, limit, body.filler, body.flips, body.mask)
            steps = (max(1, min(PIECE, int(delivery.rate / 20))),) if delivery.rate else (PIECE,)
            for piece in _split(cut.pieces(*(delivery.sizes or steps)), delivery.pause):
                send_at = began + (self._sent + len(piece)) / delivery.rate if delivery.rate else 0
                if send_at and self.stopping.wait(max(0, send_at - time.monotonic())):
                    return
                self._piece(piece, response, delivery)
                if delivery.pause and self._sent == delivery.pause[0]:
                    self.stopping.wait(delivery.pause[1])
        while delivery.endless and not self.stopping.is_set():
            self._piece(bytes(64 << 10), response, delivery)
        if response.chunked and delivery.cut_at is None:
            self.sock.sendall(b"0\r\n\r\n")

    def _piece(self, piece: bytes, response: Response, delivery: Delivery) -> None:
        self.count(len(piece))
        self._sent += len(piece)
        if response.chunked:
            line = f"{len(piece):x}".encode() if delivery.chunk_line is None else delivery.chunk_line
            piece = line + b"\r\n" + piece + b"\r\n"
        try:
            self.sock.sendall(piece)
        except OSError:
            self.count(-len(piece))
            raise

    def _sendfile(self, body: Body, limit: int) -> None:
        assert isinstance(body.data, Path)
        with body.data.open("rb") as file:
            while self._sent < limit:
                size = min(SENDFILE, limit - self._sent)
                self.count(size)
                done = 0
                try:
                    done = os.sendfile(self.sock.fileno(), file.fileno(), body.start + self._sent, size)
                finally:
                    self.count(done - size)
                if not done:
                    raise ConnectionAbortedError("the file has been truncated")
                self._sent += done

    def _end(self, ending: Ending) -> bool:
        """End the connection; bytes sent before must arrive with every ending, or `cut_at` would be meaningless."""
        if ending == "stall":
            while self.sock.recv(4096):  # until the client disconnects or the mirror stops
                pass
        elif ending == "reset":
            self._drain()
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.sock.shutdown(socket.SHUT_WR)
        return False

    def _drain(self) -> None:
        for _ in range(200):
            waiting = fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, bytes(4))
            if not int.from_bytes(waiting, "little") or self.stopping.wait(0.005):
                return


def _split(pieces: Iterator[bytes], pause: tuple[int, float] | None) -> Iterator[bytes]:
    """Split the piece that contains the pause."""
    at = 0
    for piece in pieces:
        inner = pause[0] - at if pause else 0
        if 0 < inner < len(piece):
            yield piece[:inner]
            yield piece[inner:]
        else:
            yield piece
        at += len(piece)
