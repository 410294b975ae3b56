"""Quirks that a good client must handle: all are legal, and seen in the wild."""

from __future__ import annotations

import email.utils
import time
import urllib.parse
from typing import Literal

from .exchange import Exchange
from .http1 import TINY, Response

Style = Literal["lower", "upper", "odd"]


def healthy(_: Exchange) -> None:
    """Respond normally."""


def no_ranges(x: Exchange, *, chunked: bool = False) -> None:
    """Send 200 and the whole file, whatever the requested range, without Accept-Ranges; optionally chunked."""
    x.alter(ranges=False)
    x.defer(lambda response: setattr(response, "chunked", chunked))


def chunked(x: Exchange) -> None:
    """Send every body chunked, without Content-Length; ranges are supported."""
    x.defer(lambda response: setattr(response, "chunked", True))


def slow(x: Exchange, *, rate: float = 1_000_000) -> None:
    """Send `rate` bytes a second on each connection: more connections are faster."""
    x.delivery.rate = rate


def late(x: Exchange, *, seconds: float = 0.5) -> None:
    """Delay the response."""
    x.delivery.delay = seconds


def pause(x: Exchange, *, at: int = 1000, seconds: float = 0.5) -> None:
    """Pause after `at` bytes of the body, then send the rest."""
    x.delivery.pause = (at, seconds)


def tag(x: Exchange, *, etag: str | None = None, weak: bool = False, modified: bool = True) -> None:
    """Send another entity tag, a weak one or none; with or without Last-Modified."""
    if x.content is not None:
        etag = f"W/{x.content.etag}" if weak and not etag else etag
        x.alter(etag=etag, modified=x.content.modified if modified else None)


def no_last_modified(x: Exchange) -> None:
    """Send an entity tag, and no Last-Modified."""
    x.alter(modified=None)


def http10(x: Exchange) -> None:
    """Send HTTP/1.0, 200, without a length: the body ends with the connection."""
    x.alter(ranges=False)

    def edit(response: Response) -> None:
        response.version, response.lengthless = "HTTP/1.0", True

    x.defer(edit)


def close(x: Exchange) -> None:
    """Send `Connection: close` with every response."""
    x.close = True


def header_case(x: Exchange, *, style: Style = "odd") -> None:
    """Send header names in lower, upper, or mixed case."""

    def change_case(name: str) -> str:
        mixed = "".join(letter.upper() if at % 2 else letter.lower() for at, letter in enumerate(name))
        return {"lower": name.lower(), "upper": name.upper(), "odd": mixed}[style]

    def edit(head: bytes) -> bytes:
        first, *lines = head.decode("latin-1").split("\r\n")
        split = [line.partition(":") for line in lines]
        return "\r\n".join([first, *(change_case(name) + mark + value for name, mark, value in split)]).encode(
            "latin-1"
        )

    x.delivery.edit_head = edit


def tiny_segments(x: Exchange, *, sizes: list[int] | tuple[int, ...] = TINY) -> None:
    """Send head and body in segments of 1 byte to 1 KiB."""
    x.delivery.sizes = tuple(sizes)


def many_headers(x: Exchange, *, total: int = 99) -> None:
    """Send `total` headers. (Python's http.client accepts 99 and rejects the 100th.)"""

    def edit(response: Response) -> None:
        # Connection and Content-Length are added when sending.
        response.headers += [(f"X-Odd-{at}", "x" * 40) for at in range(total - 2 - len(response.headers))]

    x.defer(edit)


def folded_headers(x: Exchange) -> None:
    """Send a header folded over several lines, as RFC 2616 still allowed; one without a value; one twice."""
    folded = [("X-Folded", "one,\r\n\ttwo,\r\n  three: four"), ("X-Empty", ""), ("X-Twice", "a"), ("X-Twice", "b")]
    x.defer(lambda response: response.headers.extend(folded))


def total_star(x: Exchange) -> None:
    """Send `Content-Range: bytes a-b/*`: the server does not report the file's size."""

    def edit(response: Response) -> None:
        if response.status == 206:
            response.put("Content-Range", f"{(response.get('Content-Range') or '').partition('/')[0]}/*")

    x.defer(edit)


def shorter_range(x: Exchange, *, limit: int = 1000) -> None:
    """Send 206 with less than requested, and a matching Content-Range."""
    if x.is_partial() and x.content is not None:
        body = x.content.body(x.response.body.start, min(limit, x.response.body.length))
        last = body.start + body.length - 1
        x.response.body = body
        x.response.put("Content-Range", f"bytes {body.start}-{last}/{x.content.size}")


def unavailable(x: Exchange, *, status: int = 503, retry: float | None = None, as_date: bool = False) -> None:
    """Send 503 or 429, with Retry-After in seconds, as a date, or without. The names with "once" do it once."""
    x.respond(status, "Too Many Requests\n" if status == 429 else "Service Unavailable\n")
    if retry is not None:
        when = email.utils.formatdate(time.time() + retry, usegmt=True) if as_date else f"{retry:g}"
        x.response.put("Retry-After", when)


def connection_limit(x: Exchange, *, limit: int = 2, status: int = 503) -> None:
    """Reject requests while more than `limit` connections are open."""
    if x.mirror.connections() > limit:
        x.respond(status, "too many connections\n")
        x.close = True


def interim(x: Exchange, *, status: int = 103) -> None:
    """Send an interim response (100 Continue, 102, 103 Early Hints) before the final one."""
    name = {100: "Continue", 102: "Processing", 103: "Early Hints"}.get(status, "Odd")
    extra = "Link: </style.css>; rel=preload; as=style\r\n" if status == 103 else ""
    x.delivery.prefix = f"HTTP/1.1 {status} {name}\r\n{extra}\r\n".encode()


def no_head(x: Exchange, *, status: int = 405) -> None:
    """Reject HEAD (Civitai does it with 401, some storage with 403); GET works."""
    if x.request.method == "HEAD":
        x.respond(status, "")


def agent_blocked(x: Exchange, *, agent: str = "Python-urllib") -> None:
    """Send 403 to a User-Agent that starts with `agent`, or to none."""
    user_agent = x.request.headers.get("user-agent", "")
    if not user_agent or user_agent.lower().startswith(agent.lower()):
        x.respond(403, "error code: 1010\n")


def redirect(x: Exchange, *, to: str | None = None, status: int = 302) -> None:
    """Redirect to `to`; by default to a relative URL of the file on this mirror."""
    if x.requested_directly():
        x.respond(status, "", Location=to if to is not None else x.mirror.sign(x.path))


def redirect_chain(x: Exchange, *, hops: int = 3, status: int = 302) -> None:
    """Send `hops` redirects one after the other, all relative, then the file."""
    at = int(x.request.query.get("hop", "0"))
    if x.requested_directly() and at < hops:
        name = urllib.parse.quote(x.path.rpartition("/")[2])
        x.respond(status, "", Location=f"{name}?hop={at + 1}")


def redirect_to_other_host(x: Exchange, *, host: str | None = None, status: int = 302, strict: bool = True) -> None:
    """Redirect to this mirror under another host name (or `host`).

    `strict`: as presigned storage does, the new URL responds with 400 to an Authorization header.
    """
    if x.requested_directly():
        signed = x.mirror.sign(x.path, strict=strict)
        x.respond(status, "", Location=x.mirror.url(signed, host=host or x.mirror.other_name(x.request)))


def expiring(
    x: Exchange, *, uses: int | None = 3, seconds: float | None = None, status: int = 302, strict: bool = True
) -> None:
    """Redirect to another host name; the URL is valid for `uses` requests or `seconds`, then responds with 403.

    The original URL redirects to a new one every time.
    """
    if x.requested_directly():
        signed = x.mirror.sign(x.path, uses=uses, seconds=seconds, strict=strict)
        x.respond(status, "", Location=x.mirror.url(signed, host=x.mirror.other_name(x.request)))
