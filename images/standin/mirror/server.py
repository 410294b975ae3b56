"""The mirror: listens, keeps the files, the rules and the log, and gives every connection a thread.

with Mirror(files={"/vae/x.safetensors": b"..."}) as mirror:
    mirror.behave("/vae/x.safetensors", behaviour("cut", at=1000, times=2))
    fetch(mirror.url("/vae/x.safetensors"))
    assert [record.status for record in mirror.requests] == [206, 206, 206]
"""

from __future__ import annotations

import contextlib
import fnmatch
import itertools
import secrets
import socket
import ssl
import struct
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from . import control
from .behaviours import Behaviour, Rule, behaviour
from .content import Content, span
from .exchange import Exchange
from .state import Line, Record, State, Ticket
from .wire import Incoming, Outgoing, Request

SIGNED = "/cdn/"
EXPIRED = "<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>\n"
STRICT = (
    "<?xml version='1.0'?><Error><Code>InvalidArgument</Code>"
    "<Message>Only one auth mechanism allowed</Message></Error>\n"
)


class Mirror:
    """An HTTP server on the loopback that can misbehave on request."""

    def __init__(
        self,
        files: Mapping[str, bytes | Path] | None = None,
        *,
        root: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        doors: bool = False,
    ) -> None:
        self.files: dict[str, bytes | Path] = dict(files or {})
        self.host, self.port = host, port
        self._root, self._tls, self._doors = root.resolve() if root else None, tls, doors
        self._state, self._lock, self._stopping = State(), threading.Lock(), threading.Event()
        self._open: dict[int, socket.socket] = {}
        self._threads: set[threading.Thread] = set()
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._numbers = itertools.count(1)
        self.peak = 0  # the most connections that were ever open at the same time

    # -- for tests ---------------------------------------------------------------------------------------------

    def url(self, path: str, *, host: str | None = None) -> str:
        """Give the address of a file; `host` may be another name for this host, with a port if it is not ours."""
        scheme, place = "https" if self._tls else "http", host or self.host
        place = place if ":" in place else f"{place}:{self.port}"
        path, mark, query = path.partition("?")
        return f"{scheme}://{place}{urllib.parse.quote(path)}{mark}{query}"

    def behave(self, path: str, *what: Behaviour | str, also: bool = False) -> None:
        """Set how a path behaves, in place of how it did, or `also`. Several behaviours act one after the other.

        A path is exact, a pattern as /cdn/* (what is behind redirects), or "*" for all; the first that is exact, else
        all patterns that fit, apply. Behaviours of what is behind a redirect are set under /cdn/*.
        """
        rules = [Rule(behaviour(one) if isinstance(one, str) else one) for one in what]
        with self._lock:
            self._state.rules[path] = [*self._state.rules.get(path, []), *rules] if also else rules

    def forget(self, path: str | None = None) -> None:
        """Let a path, or everything, be healthy again; the log and signed addresses stay."""
        with self._lock:
            if path is None:
                self._state.rules, self._state.refusing = {}, 0
            else:
                self._state.rules.pop(path, None)

    def reset(self) -> None:
        """Forget behaviours, signed addresses and the log; open connections go on."""
        with self._lock:
            self._state = State()
            self.peak = len(self._open)

    def hub(self, repo: str, files: Mapping[str, bytes | Path], *, revision: str = "main", **options: object) -> str:
        """Put files where Hugging Face would have them, and return the prefix of their paths. Options: see hub.py."""
        prefix = f"/{repo}/resolve/{revision}/"
        self.files |= {prefix + name: data for name, data in files.items()}
        self.behave(f"/{repo}/resolve/*", behaviour("hub", **options))
        return prefix

    @property
    def requests(self) -> list[Record]:
        """Give what was asked so far, also what is not answered yet."""
        with self._lock:
            return [replace(line.record, sent=line.sent) for line in self._state.log]

    def clear_log(self) -> None:
        """Forget what was asked so far."""
        with self._lock:
            self._state.log.clear()

    # -- for behaviours ----------------------------------------------------------------------------------------

    def find(self, path: str) -> Content | None:
        """Give a file as it is now."""
        if (data := self.files.get(path)) is not None:
            return Content.of(data)
        if self._root is None or "\0" in path:
            return None
        place = (self._root / path.lstrip("/")).resolve()
        return Content.of(place) if place.is_relative_to(self._root) and place.is_file() else None

    def paths(self) -> list[str]:
        """List all files."""
        below = self._root.rglob("*") if self._root else ()
        return [*self.files, *(f"/{path.relative_to(self._root)}" for path in below if self._root and path.is_file())]

    def other_name(self, request: Request) -> str:
        """Give another name of this host, as seen by this client."""
        name, _, port = request.headers.get("host", self.host).partition(":")
        other = "127.0.0.1" if name == "localhost" else "localhost"
        return f"{other}:{port or self.port}"

    def sign(
        self, path: str, *, uses: int | None = None, seconds: float | None = None, strict: bool = False, etag: str = ""
    ) -> str:
        """Make an address that is good for a while."""
        token = secrets.token_hex(8)
        until = None if seconds is None else time.monotonic() + seconds
        with self._lock:
            self._state.tickets[token] = Ticket(path, uses, until, strict, etag)
        return f"{SIGNED}{urllib.parse.quote(path.lstrip('/'))}?Expires={int(seconds or 3600)}&Signature={token}"

    def refuse(self, connections: int) -> None:
        """Close that many coming connections as soon as they are accepted (0: all, until reset)."""
        with self._lock:
            self._state.refusing = connections or -1

    def connections(self) -> int:
        """Count the open connections."""
        with self._lock:
            return len(self._open)

    # -- running -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen, and answer from now on."""
        self._listener = socket.create_server((self.host, self.port), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """Close every socket, whatever it is doing, and wait for the threads."""
        self._stopping.set()
        if self._listener and self._accepting:
            _shut(self._listener)
            self._accepting.join()
            self._listener.close()
        with self._lock:
            sockets, threads = [*self._open.values()], [*self._threads]
        for sock in sockets:
            _shut(sock)
        for thread in threads:
            thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                sock, (_, port, *_) = listener.accept()
            except OSError:
                if self._stopping.is_set():
                    return
                self._stopping.wait(0.05)  # out of file descriptors: others may close some
                continue
            with self._lock:
                refused = self._state.refusing
                self._state.refusing -= 1 if refused > 0 else 0
                number = next(self._numbers)
                if welcome := not refused and not self._stopping.is_set():
                    self._open[number] = sock
                    self.peak = max(self.peak, len(self._open))
                    thread = threading.Thread(target=self._serve, args=(sock, number, port), daemon=True)
                    self._threads.add(thread)
                    thread.start()
            if not welcome:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()

    def _serve(self, sock: socket.socket, number: int, port: int) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                with self._lock:
                    self._open[number] = sock
                if self._stopping.is_set():  # then `stop` may have shut the socket that this one has replaced
                    return
                sock.do_handshake()
            incoming = Incoming(sock)
            while (request := incoming.request()) and self._one(sock, number, port, request):
                pass
        except (OSError, ValueError):  # the client is gone, or the mirror stops (ValueError: in the middle of TLS)
            pass
        finally:
            with self._lock:
                del self._open[number]
                self._threads.discard(threading.current_thread())
            sock.close()

    def _one(self, sock: socket.socket, number: int, port: int, request: Request) -> bool:
        """Answer one request; say whether the connection can go on."""
        outgoing = Outgoing(sock, self._stopping, lambda _: None, encrypted=self._tls is not None)
        if self._doors and request.path.startswith(control.PREFIX):
            x = Exchange(self, request, request.path, None)
            control.answer(self, x)
        else:
            x, line = self._exchange(request, number, port)
            outgoing.count = line.count
        close = x.close or "close" in request.headers.get("connection", "").lower() or request.version == "HTTP/1.0"
        return outgoing.send(x.reply, x.delivery, request.method, close=close) and not self._stopping.is_set()

    def _exchange(self, request: Request, number: int, port: int) -> tuple[Exchange, Line]:
        """Find out what to answer, and put it into the log before the client can see it."""
        began, (path, refusal, etag) = time.monotonic(), self._locate(request)
        x = Exchange(self, request, path, self.find(path))
        if etag:
            x.alter(etag=etag)
        wanted = span(request.headers.get("range"), x.content.size) if x.content else None
        acted = []
        if refusal:
            x.say(refusal, STRICT if refusal == 400 else EXPIRED, "application/xml")
        else:
            for rule in self._rules(request.path):
                with self._lock:
                    due = rule.due(x)
                if due:
                    acted.append(rule.what.name)
                    rule.what.act(x)
            x.finish()
        status = 0 if x.delivery.mute or x.delivery.instead is not None else x.reply.status
        record = Record(
            request.method, request.path, request.target, request.headers, request.headers.get("range"), wanted,
            status, 0, port, number, tuple(acted), began,
        )  # fmt: skip
        line = Line(record)
        with self._lock:
            self._state.log.append(line)
        return x, line

    def _rules(self, path: str) -> Iterator[Rule]:
        with self._lock:
            rules = self._state.rules
            patterns = [path] if path in rules else [name for name in rules if fnmatch.fnmatchcase(path, name)]
            found = [rule for pattern in patterns for rule in rules[pattern]]
        return iter(found)

    def _locate(self, request: Request) -> tuple[str, int, str]:
        """Say which file is meant, and for a signed address whether it is refused and which tag the file has there."""
        if not request.path.startswith(SIGNED):
            return request.path, 0, ""
        with self._lock:
            ticket = self._state.tickets.get(request.query.get("Signature", ""))
            if ticket is None:
                return request.path, 0, ""
            if ticket.strict and "authorization" in request.headers:
                return ticket.path, 400, ""
            if ticket.uses == 0 or (ticket.until is not None and time.monotonic() > ticket.until):
                return ticket.path, 403, ""
            ticket.uses = None if ticket.uses is None else ticket.uses - 1
            return ticket.path, 0, ticket.etag


def _shut(sock: socket.socket) -> None:
    """Wake whoever waits on it; TLS must not be asked, it would want to say goodbye."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
