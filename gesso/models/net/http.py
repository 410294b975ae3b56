"""HTTP GET over persistent connections: addresses are checked when connecting, redirects are followed one by one.

http.client, not a higher client: a body must go from the socket into our buffer in one step, and each hop of a redirect
is ours to judge (which token, which address, which scheme).
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from gesso import __version__
from gesso.models.faults import SourceError, cut_off
from gesso.models.net import hosts
from gesso.models.net.addresses import Reach, allowed, connect_to, proxy_for, reach_of
from gesso.models.net.answer import Answer, Response, retry_after

if TYPE_CHECKING:
    from gesso.models.net.client import Client

AGENT = f"gesso/{__version__}"
_HOPS = 8
_SMALL = 1 << 16  # bytes of an unneeded body that are read to keep the connection
_REDIRECTS = {301, 302, 303, 307, 308}
_LATER = "try again later"


class HttpConnection:
    """A connection that is reused for the same origin; not thread-safe, except `shut`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._connection: http.client.HTTPConnection | None = None
        self._origin: tuple[str, str, int, Reach] | None = None
        self._response: http.client.HTTPResponse | None = None
        self._left: int | None = None  # bytes of body to come; None: until the response ends
        self._most: int | None = None  # and then at most these
        client.enter(self)

    def get(self, url: str, *, start: int = 0, end: int | None = None, ranged: bool = True, source: str = "") -> Answer:
        """GET `url` (from byte `start` to before `end`, if `ranged`) and give the head of the answer.

        `source` is the address in the manifest that led here, where that is another. Raises SourceError.
        """
        source = source or url
        headers = {"Accept-Encoding": "identity", "Accept": "*/*", "User-Agent": AGENT}
        if ranged:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        told = hosts.Announced()
        for hop in range(_HOPS):
            allowed(url, source)
            token = hosts.authorization(url, self._client.env)
            response = self._request(url, headers | token, reach_of(url, source))
            if response.status not in _REDIRECTS:
                return self._answer(response, url, told, with_token=bool(token))
            if hop == 0:
                told = hosts.announced(dict(response.headers))
            target = response.headers.get("Location")
            self._drain()
            if not target or not re.fullmatch(r"[!-~]+", target):
                raise SourceError("bad-redirect", "a redirect without a location")
            try:
                url = urljoin(url, target)
            except ValueError:
                raise SourceError("bad-redirect", "a redirect to an invalid URL") from None
        raise SourceError("bad-redirect", f"more than {_HOPS} redirects")

    def _answer(
        self, response: http.client.HTTPResponse, url: str, told: hosts.Announced, *, with_token: bool
    ) -> Answer:
        answer = Answer(response.status, response.headers, url, told)
        if response.status not in {http.client.OK, http.client.PARTIAL_CONTENT}:
            fault = hosts.refusal(response.status, dict(response.headers), url, with_token=with_token)
            fault.retry_after = retry_after(response.headers.get("Retry-After"))
            self._drain()
            raise fault
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in {"identity", ""}:
            raise SourceError("encoded", f"a body encoded with {ascii(coding[:20])[1:-1]}, which was not requested")
        if response.headers.get("Content-Type", "").lower().startswith("multipart/"):
            raise SourceError("bad-range", "several parts although one was requested")
        self._left, self._most = answer.length, None
        return answer

    def _request(self, url: str, headers: dict[str, str], reach: Reach) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        where = (*hosts.origin(parts), reach)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fresh = self._connection is None or self._origin != where or self._response is not None
        for again in (False, True):
            if fresh or again or self._connection is None:
                self.close()
                self._connection, self._origin = self._connect(where, url), where
            try:
                self._connection.request("GET", path, headers=headers)
                self._response = self._connection.getresponse()
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.close()  # the next request must not read the rest of this response
                # The server may have closed an idle connection: that is not an error yet.
                ended = isinstance(error, ConnectionError)  # RemoteDisconnected is one
                if not ended or fresh or again or self._client.stopped:
                    raise self._unanswered(error) from None
            else:
                return self._response
        raise AssertionError("unreachable")

    def _unanswered(self, error: Exception) -> SourceError:
        if isinstance(error, TimeoutError):
            return stalled_error(self._client.stall)
        if isinstance(error, ConnectionError):
            return cut_off(f"the connection ended before a response ({type(error).__name__})")
        if isinstance(error, OSError):
            return cut_off(f"the connection failed: {error.strerror or error}")
        return SourceError("not-http", f"not an HTTP response ({type(error).__name__})")

    def _connect(self, where: tuple[str, str, int, Reach], url: str) -> http.client.HTTPConnection:
        scheme, host, port, reach = where
        connection = self._prepare(scheme, host, port, reach)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise _no_connection(error, url, self._client.connect) from None
        except (ValueError, http.client.HTTPException, SourceError) as error:
            connection.close()
            if isinstance(error, SourceError):
                raise
            raise SourceError("unreachable", f"no connection: {error}", _LATER, transient=True) from None
        if connection.sock is not None:
            connection.sock.settimeout(self._client.stall)
        if self._client.stopped:
            connection.close()
            raise cut_off("stopped")
        return connection

    def _prepare(self, scheme: str, host: str, port: int, reach: Reach) -> http.client.HTTPConnection:
        """Create a connection, not yet open; through the proxy that the environment sets for this host, if any."""
        via = proxy_for(scheme, host, port)
        peer = via or (host, port)
        kind: Any = http.client.HTTPConnection
        if scheme == "https":
            kind = partial(http.client.HTTPSConnection, context=self._client.tls())
        connection: Any = kind(*peer, timeout=self._client.connect)
        connection.response_class = partial(Response, within=2 * self._client.stall)
        if via is not None:
            connection.set_tunnel(host, port)
        elif reach != "any":
            connection._create_connection = partial(connect_to, reach=reach)
        made: http.client.HTTPConnection = connection
        return made

    @property
    def stall(self) -> float:
        """Seconds without a byte until it gives up."""
        return self._client.stall

    @property
    def busy(self) -> bool:
        """Whether the body is not read completely."""
        return self._response is not None

    def limit(self, length: int) -> None:
        """Read at most `length` bytes of this body if it does not announce its length."""
        self._most = length if self._left is None else None

    def read_into(self, view: memoryview) -> int:
        """Read what is there, at most `view`, waiting for a first byte; 0 at the end of the body.

        Raises SourceError where the body ends early, is malformed, or stalls.
        """
        response = self._response
        if response is None:
            return 0
        try:
            count = self._read_unmeasured(response, view) if self._left is None else self._read_measured(response, view)
        except TimeoutError:
            raise stalled_error(self._client.stall) from None
        except (http.client.HTTPException, ValueError, AttributeError) as error:
            raise cut_off(f"the body is malformed ({type(error).__name__})") from None
        except OSError as error:
            raise cut_off(f"the connection broke: {error.strerror or error}") from None
        if count == 0 or self._left == 0:
            self._finish()
        return count

    def _read_measured(self, response: http.client.HTTPResponse, view: memoryview) -> int:
        """Read from the socket's file straight into `view`: the response's own `readinto` waits until it is full."""
        assert self._left is not None
        file: Any = response.fp
        if self._left == 0 or file is None:
            return 0
        count: int = file.readinto1(view[: min(len(view), self._left)])
        self._left -= count
        if count == 0:
            raise cut_off(f"the body ended {self._left:,} bytes early")
        return count

    def _read_unmeasured(self, response: http.client.HTTPResponse, view: memoryview) -> int:
        piece = response.read1(len(view) if self._most is None else max(1, min(len(view), self._most)))
        view[: len(piece)] = piece
        if self._most is not None:
            self._most -= len(piece)
            if self._most < 0:
                raise SourceError("bad-range", "a part that is longer than it says")
        return len(piece)

    def _finish(self) -> None:
        """Finish a complete body: the connection can be reused, unless the server closes it."""
        response, self._response = self._response, None
        if response is None:
            return
        measured = self._left == 0
        if measured:
            response.length = 0  # its bytes were read directly from the socket
        closes = response.will_close
        if measured and not closes and response.fp is not None:
            with contextlib.suppress(OSError, ValueError):
                response.read(0)
                response.close()
        if closes or (not measured and not response.isclosed()):
            self.close()

    def _drain(self) -> None:
        """Skip a small body to keep the connection; else close it."""
        response = self._response
        small = response is not None and response.length is not None and response.length < _SMALL
        if response is not None and small and not response.will_close:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                response.read()
                self._response = None
                return
        self.close()

    def shut(self) -> None:
        """Unblock a read of this connection, from another thread."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next GET opens another."""
        response, self._response = self._response, None
        if response is not None:
            response.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._left = None

    def leave(self) -> None:
        """Close permanently."""
        self.close()
        self._client.leave(self)


def stalled_error(seconds: float) -> SourceError:
    """Return the error of a source that stopped sending."""
    return SourceError("stalled", f"nothing came for {seconds:g} s", _LATER, transient=True)


def _no_connection(error: OSError, url: str, within: float) -> SourceError:
    host = urlsplit(url).hostname
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        said = getattr(error, "verify_message", "") or error.reason or "TLS failed"
        return SourceError("tls", f"no trusted connection: {said}", "set SSL_CERT_FILE behind a TLS proxy")
    said = f"in {within:g} s" if isinstance(error, TimeoutError) else f": {error.strerror or error}"
    step = f"check the network: can this machine reach {host}?"
    return SourceError("unreachable", f"no connection {said}".replace(" :", ":"), step, transient=True)
