"""Faults of the transport: wrong lengths, broken connections, malformed HTTP, and invalid redirects."""

from __future__ import annotations

import urllib.parse

from .content import resolve_offset
from .exchange import Exchange
from .http1 import Ending, Response


def cut(x: Exchange, *, at: float = 0.5, ending: Ending = "close") -> None:
    """Cut the body at byte `at` (a fraction: of this body; < 0: from its end), with the full Content-Length.

    Then the connection is closed, reset, or stays open without data ("stall").
    """

    def edit(response: Response) -> None:
        x.delivery.cut_at, x.delivery.ending = resolve_offset(at, response.body.length), ending

    x.defer(edit)


def no_response(x: Exchange, *, ending: Ending = "stall") -> None:
    """Read the request and send nothing: the connection stalls, is closed, or is reset."""
    x.delivery.silent, x.delivery.ending = True, ending


def trickle(x: Exchange, *, rate: float = 1, head: bool = False) -> None:
    """Send `rate` bytes a second; with `head`, the head too."""
    x.delivery.rate = rate
    if head:
        x.delivery.slow_head = rate


def refuse(x: Exchange, *, connections: int = 8) -> None:
    """Reset this request, and close the next `connections` as soon as they are accepted (0: until reset)."""
    x.mirror.refuse(connections)
    no_response(x, ending="reset")


def length(x: Exchange, *, value: str | None = None, off: int = 0, ending: Ending = "close") -> None:
    """Send a Content-Length that is off by `off`, or is `value` ("": none, the body ends with the connection).

    If the length is too high, `ending` decides whether the connection closes or stalls at the body's end.
    """

    def edit(response: Response) -> None:
        x.close = True
        if value == "":
            response.lengthless = True
        else:
            response.put("Content-Length", value or str(max(0, response.body.length + off)))
            x.delivery.ending = ending

    x.defer(edit)


def two_lengths(x: Exchange, *, off: int = -1) -> None:
    """Send two Content-Length headers that contradict each other."""

    def edit(response: Response) -> None:
        x.close = True
        response.headers += [("Content-Length", str(response.body.length + more)) for more in (off, 0)]

    x.defer(edit)


def endless(x: Exchange, *, chunked: bool = False) -> None:
    """Send endless zeros after the body, chunked or not, without a length."""
    x.delivery.endless = True
    x.defer(lambda response: setattr(response, "chunked", chunked))
    x.defer(lambda response: response.drop("Content-Length"))


def bad_chunks(x: Exchange, *, line: str = "zz") -> None:
    """Send a chunked body with `line` in place of the size of every chunk."""
    x.delivery.chunk_line = line.encode("latin-1")
    x.close = True
    x.defer(lambda response: setattr(response, "chunked", True))


def unended_chunks(x: Exchange) -> None:
    """Send the whole body chunked, but close the connection before the last chunk."""

    def edit(response: Response) -> None:
        response.chunked = True
        x.delivery.cut_at, x.delivery.ending = response.body.length, "close"

    x.defer(edit)


def raw(x: Exchange, *, text: str = "SSH-2.0-OpenSSH_9.2p1\r\n") -> None:
    """Send these bytes instead of a response."""
    x.delivery.raw_bytes = text.encode("latin-1")


def first_line(x: Exchange, *, line: str = "HTTP/1.1 999 Odd") -> None:
    """Replace the status line only."""
    x.delivery.edit_head = lambda head: line.encode("latin-1") + b"\r\n" + head.partition(b"\r\n")[2]
    x.close = True


def huge_header(x: Exchange, *, size: int = 1 << 20, count: int = 1) -> None:
    """Add `count` headers of `size` bytes."""
    x.defer(lambda response: response.headers.extend((f"X-Huge-{at}", "x" * size) for at in range(count)))


def redirect_loop(x: Exchange, *, status: int = 302, fresh: bool = False) -> None:
    """Redirect to the same URL, or to a `fresh` one every time, endlessly."""
    at = int(x.request.query.get("hop", "0")) + 1
    x.respond(status, "", Location=f"{urllib.parse.quote(x.request.path)}?hop={at}" if fresh else x.request.target)


def redirect_without_location(x: Exchange, *, status: int = 302) -> None:
    """Redirect without a Location header."""
    x.respond(status, "moved\n")


def downgrade(x: Exchange, *, status: int = 302) -> None:
    """Redirect to plain http on this host; it only makes sense for a mirror with `tls`."""
    plain = x.mirror.url(x.path).replace("https://", "http://", 1)
    x.respond(status, "", Location=plain)
