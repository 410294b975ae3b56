"""The mirror server: holds the files, the rules and the log, and starts a thread for every connection.

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
from .http1 import Request, RequestReader, ResponseWriter
from .state import LogEntry, Record, SignedUrl, State

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
        control_api: bool = False,
    ) -> None:
        self.files: dict[str, bytes | Path] = dict(files or {})
        self.host, self.port = host, port
        self._root, self._tls, self._control_api = root.resolve() if root else None, tls, control_api
        self._state, self._lock, self._stopping = State(), threading.Lock(), threading.Event()
        self._open: dict[int, socket.socket] = {}
        self._threads: set[threading.Thread] = set()
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._numbers = itertools.count(1)
        self.peak = 0  # the highest number of simultaneous connections

    # -- for tests ---------------------------------------------------------------------------------------------

    def url(self, path: str, *, host: str | None = None) -> str:
        """Return the URL of a file; `host` may be another name for this host, with a port if it is not ours."""
        scheme, authority = "https" if self._tls else "http", host or self.host
        authority = authority if ":" in authority else f"{authority}:{self.port}"
        path, mark, query = path.partition("?")
        return f"{scheme}://{authority}{urllib.parse.quote(path)}{mark}{query}"

    def behave(self, path: str, *behaviours: Behaviour | str, also: bool = False) -> None:
        """Set a path's behaviours, which act in this order; with `also` add to those that it has.

        A path is exact, a pattern like /cdn/* (the targets of redirects), or "*" for all. The exact one applies, or
        else all patterns that match.
        """
        rules = [Rule(behaviour(one) if isinstance(one, str) else one) for one in behaviours]
        with self._lock:
            self._state.rules[path] = [*self._state.rules.get(path, []), *rules] if also else rules

    def forget(self, path: str | None = None) -> None:
        """Remove the behaviours of a path, or of all; the log and signed URLs stay."""
        with self._lock:
            if path is None:
                self._state.rules, self._state.refusing = {}, 0
            else:
                self._state.rules.pop(path, None)

    def reset(self) -> None:
        """Remove behaviours, signed URLs and the log; open connections continue."""
        with self._lock:
            self._state = State()
            self.peak = len(self._open)

    def hub(self, repo: str, files: Mapping[str, bytes | Path], *, revision: str = "main", **options: object) -> str:
        """Serve files under Hugging Face's URLs and return the prefix of their paths. Options: see hub.py."""
        prefix = f"/{repo}/resolve/{revision}/"
        self.files |= {prefix + name: data for name, data in files.items()}
        self.behave(f"/{repo}/resolve/*", behaviour("hub", **options))
        return prefix

    @property
    def requests(self) -> list[Record]:
        """The requests so far, also those in progress."""
        with self._lock:
            return [replace(entry.record, sent=entry.sent) for entry in self._state.log]

    def clear_log(self) -> None:
        """Remove the requests so far from the log."""
        with self._lock:
            self._state.log.clear()

    # -- for behaviours ----------------------------------------------------------------------------------------

    def find(self, path: str) -> Content | None:
        """Return the current version of a file, or None."""
        if (data := self.files.get(path)) is not None:
            return Content.of(data)
        if self._root is None or "\0" in path:
            return None
        file = (self._root / path.lstrip("/")).resolve()
        return Content.of(file) if file.is_relative_to(self._root) and file.is_file() else None

    def paths(self) -> list[str]:
        """Return the paths of all files."""
        below = self._root.rglob("*") if self._root else ()
        return [*self.files, *(f"/{path.relative_to(self._root)}" for path in below if self._root and path.is_file())]

    def other_name(self, request: Request) -> str:
        """Return another name of this host, as seen by this client."""
        name, _, port = request.headers.get("host", self.host).partition(":")
        other = "127.0.0.1" if name == "localhost" else "localhost"
        return f"{other}:{port or self.port}"

    def sign(
        self, path: str, *, uses: int | None = None, seconds: float | None = None, strict: bool = False, etag: str = ""
    ) -> str:
        """Return a signed URL that is valid for `uses` requests or `seconds`."""
        token = secrets.token_hex(8)
        expires = None if seconds is None else time.monotonic() + seconds
        with self._lock:
            self._state.signed_urls[token] = SignedUrl(path, uses, expires, strict, etag)
        return f"{SIGNED}{urllib.parse.quote(path.lstrip('/'))}?Expires={int(seconds or 3600)}&Signature={token}"

    def refuse(self, connections: int) -> None:
        """Close the next `connections` as soon as they are accepted (0: all, until reset)."""
        with self._lock:
            self._state.refusing = connections or -1

    def connections(self) -> int:
        """Return the number of open connections."""
        with self._lock:
            return len(self._open)

    # -- running -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen and serve in the background."""
        self._listener = socket.create_server((self.host, self.port), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """Close every socket and wait for the threads."""
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
                self._stopping.wait(0.05)  # out of file descriptors: wait until some are closed
                continue
            with self._lock:
                refused = self._state.refusing
                self._state.refusing -= 1 if refused > 0 else 0
                number = next(self._numbers)
                if accepted := not refused and not self._stopping.is_set():
                    self._open[number] = sock
                    self.peak = max(self.peak, len(self._open))
                    thread = threading.Thread(target=self._serve, args=(sock, number, port), daemon=True)
                    self._threads.add(thread)
                    thread.start()
            if not accepted:
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
            incoming = RequestReader(sock)
            while (request := incoming.request()) and self._handle(sock, number, port, request):
                pass
        except (OSError, ValueError):  # the client disconnected, or the mirror stops (ValueError: within TLS)
            pass
        finally:
            with self._lock:
                del self._open[number]
                self._threads.discard(threading.current_thread())
            sock.close()

    def _handle(self, sock: socket.socket, number: int, port: int, request: Request) -> bool:
        """Respond to one request; return whether the connection can be kept alive."""
        outgoing = ResponseWriter(sock, self._stopping, lambda _: None, encrypted=self._tls is not None)
        if self._control_api and request.path.startswith(control.PREFIX):
            x = Exchange(self, request, request.path, None)
            control.handle(self, x)
        else:
            x, entry = self._process(request, number, port)
            outgoing.count = entry.count
        close = x.close or "close" in request.headers.get("connection", "").lower() or request.version == "HTTP/1.0"
        return outgoing.send(x.response, x.delivery, request.method, close=close) and not self._stopping.is_set()

    def _process(self, request: Request, number: int, port: int) -> tuple[Exchange, LogEntry]:
        """Apply the behaviours and log the request before the client can see the response."""
        began, (path, refusal, etag) = time.monotonic(), self._locate(request)
        x = Exchange(self, request, path, self.find(path))
        if etag:
            x.alter(etag=etag)
        requested = span(request.headers.get("range"), x.content.size) if x.content else None
        acted = []
        if refusal:
            x.respond(refusal, STRICT if refusal == 400 else EXPIRED, "application/xml")
        else:
            for rule in self._rules(request.path):
                with self._lock:
                    applies = rule.applies(x)
                if applies:
                    acted.append(rule.behaviour.name)
                    rule.behaviour.act(x)
            x.apply_deferred()
        status = 0 if x.delivery.silent or x.delivery.raw_bytes is not None else x.response.status
        record = Record(
            request.method, request.path, request.target, request.headers, request.headers.get("range"), requested,
            status, 0, port, number, tuple(acted), began,
        )  # fmt: skip
        entry = LogEntry(record)
        with self._lock:
            self._state.log.append(entry)
        return x, entry

    def _rules(self, path: str) -> Iterator[Rule]:
        with self._lock:
            rules = self._state.rules
            patterns = [path] if path in rules else [name for name in rules if fnmatch.fnmatchcase(path, name)]
            found = [rule for pattern in patterns for rule in rules[pattern]]
        return iter(found)

    def _locate(self, request: Request) -> tuple[str, int, str]:
        """Return the file's path, and for a signed URL the error status (or 0) and the file's entity tag there."""
        if not request.path.startswith(SIGNED):
            return request.path, 0, ""
        with self._lock:
            signed = self._state.signed_urls.get(request.query.get("Signature", ""))
            if signed is None:
                return request.path, 0, ""
            if signed.strict and "authorization" in request.headers:
                return signed.path, 400, ""
            if signed.uses == 0 or (signed.expires is not None and time.monotonic() > signed.expires):
                return signed.path, 403, ""
            signed.uses = None if signed.uses is None else signed.uses - 1
            return signed.path, 0, signed.etag


def _shut(sock: socket.socket) -> None:
    """Wake the threads that wait on the socket; bypass TLS, whose shutdown would wait for the peer."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
