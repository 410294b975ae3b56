"""Behaviours that a good client must cope with: all of this is legal, and seen in the wild."""

from __future__ import annotations

import email.utils
import time
import urllib.parse
from typing import Literal

from .exchange import Exchange
from .wire import TINY, Reply

Style = Literal["lower", "upper", "odd"]


def healthy(_: Exchange) -> None:
    """Nothing out of the ordinary."""


def no_ranges(x: Exchange, *, chunked: bool = False) -> None:
    """200 and the whole file, whatever range is asked for; no Accept-Ranges; perhaps chunked, with no length."""
    x.alter(ranges=False)
    x.later(lambda reply: setattr(reply, "chunked", chunked))


def chunked(x: Exchange) -> None:
    """Ranges are honoured, but every body is chunked and has no Content-Length."""
    x.later(lambda reply: setattr(reply, "chunked", True))


def slow(x: Exchange, *, rate: float = 1_000_000) -> None:
    """`rate` bytes a second on each connection: more connections are faster."""
    x.delivery.rate = rate


def late(x: Exchange, *, seconds: float = 0.5) -> None:
    """The answer takes a while to begin."""
    x.delivery.wait = seconds


def pause(x: Exchange, *, at: int = 1000, seconds: float = 0.5) -> None:
    """After `at` bytes of body nothing comes for a while, then the rest."""
    x.delivery.pause = (at, seconds)


def tag(x: Exchange, *, etag: str | None = None, weak: bool = False, modified: bool = True) -> None:
    """Another entity tag, a weak one or none; with or without Last-Modified."""
    if x.content is not None:
        etag = f"W/{x.content.etag}" if weak and not etag else etag
        x.alter(etag=etag, modified=x.content.modified if modified else None)


def no_modified(x: Exchange) -> None:
    """An entity tag, and no Last-Modified."""
    x.alter(modified=None)


def old_http(x: Exchange) -> None:
    """HTTP/1.0, 200, no length: the body ends with the connection."""
    x.alter(ranges=False)

    def edit(reply: Reply) -> None:
        reply.version, reply.lengthless = "HTTP/1.0", True

    x.later(edit)


def close(x: Exchange) -> None:
    """`Connection: close` after every answer."""
    x.close = True


def header_case(x: Exchange, *, style: Style = "odd") -> None:
    """Names of headers in small letters, in capitals, or mixed."""

    def spell(name: str) -> str:
        mixed = "".join(letter.upper() if at % 2 else letter.lower() for at, letter in enumerate(name))
        return {"lower": name.lower(), "upper": name.upper(), "odd": mixed}[style]

    def respell(head: bytes) -> bytes:
        first, *lines = head.decode("latin-1").split("\r\n")
        spelt = [":".join([spell(line.partition(":")[0]), line.partition(":")[2]]) if line else "" for line in lines]
        return "\r\n".join([first, *spelt]).encode("latin-1")

    x.delivery.spell = respell


def tiny_segments(x: Exchange, *, sizes: list[int] | tuple[int, ...] = TINY) -> None:
    """Head and body leave in segments of 1 byte to 1 KiB."""
    x.delivery.sizes = tuple(sizes)


def many_headers(x: Exchange, *, total: int = 99) -> None:
    """That many headers in all. (Python's http.client takes 99 and refuses the 100th.)"""

    def edit(reply: Reply) -> None:
        # Connection and Content-Length are added when sending.
        reply.headers += [(f"X-Odd-{at}", "x" * 40) for at in range(total - 2 - len(reply.headers))]

    x.later(edit)


def folded_headers(x: Exchange) -> None:
    """A header that goes on in the next line, as RFC 2616 still allowed; one without a value; the same one twice."""
    folded = [("X-Folded", "one,\r\n\ttwo,\r\n  three: four"), ("X-Empty", ""), ("X-Twice", "a"), ("X-Twice", "b")]
    x.later(lambda reply: reply.headers.extend(folded))


def total_star(x: Exchange) -> None:
    """`Content-Range: bytes a-b/*`: the server does not say how long the file is."""

    def edit(reply: Reply) -> None:
        if reply.status == 206:
            reply.put("Content-Range", f"{(reply.get('Content-Range') or '').partition('/')[0]}/*")

    x.later(edit)


def shorter_range(x: Exchange, *, most: int = 1000) -> None:
    """206 that gives less than was asked for, and says so."""
    if x.ranged() and x.content is not None:
        body = x.content.body(x.reply.body.start, min(most, x.reply.body.length))
        last = body.start + body.length - 1
        x.reply.body = body
        x.reply.put("Content-Range", f"bytes {body.start}-{last}/{x.content.size}")


def busy(x: Exchange, *, status: int = 503, retry: float | None = None, as_date: bool = False) -> None:
    """503 or 429 with Retry-After in seconds, as a date, or without. The names with "once" do it one time."""
    x.say(status, "Too Many Requests\n" if status == 429 else "Service Unavailable\n")
    if retry is not None:
        when = email.utils.formatdate(time.time() + retry, usegmt=True) if as_date else f"{retry:g}"
        x.reply.put("Retry-After", when)


def crowded(x: Exchange, *, most: int = 2, status: int = 503) -> None:
    """Refuse whoever comes while more than `most` connections are open."""
    if x.desk.connections() > most:
        x.say(status, "too many connections\n")
        x.close = True


def early(x: Exchange, *, status: int = 103) -> None:
    """An interim answer (100 Continue, 102, 103 Early Hints) ahead of the real one."""
    name = {100: "Continue", 102: "Processing", 103: "Early Hints"}.get(status, "Odd")
    extra = "Link: </style.css>; rel=preload; as=style\r\n" if status == 103 else ""
    x.delivery.before = f"HTTP/1.1 {status} {name}\r\n{extra}\r\n".encode()


def no_head(x: Exchange, *, status: int = 405) -> None:
    """HEAD is refused (Civitai does it with 401, some storage with 403), GET is fine."""
    if x.request.method == "HEAD":
        x.say(status, "")


def agent_blocked(x: Exchange, *, agent: str = "Python-urllib") -> None:
    """403 for a User-Agent that begins so, or for none."""
    given = x.request.headers.get("user-agent", "")
    if not given or given.lower().startswith(agent.lower()):
        x.say(403, "error code: 1010\n")


def redirect(x: Exchange, *, to: str | None = None, status: int = 302) -> None:
    """A redirect to `to`; without it to a relative address of this mirror that has the file."""
    if x.unsigned():
        x.say(status, "", Location=to if to is not None else x.desk.sign(x.path))


def redirect_chain(x: Exchange, *, hops: int = 3, status: int = 302) -> None:
    """That many redirects one after the other, all relative, then the file."""
    at = int(x.request.query.get("hop", "0"))
    if x.unsigned() and at < hops:
        name = urllib.parse.quote(x.path.rpartition("/")[2])
        x.say(status, "", Location=f"{name}?hop={at + 1}")


def elsewhere(x: Exchange, *, host: str | None = None, status: int = 302, strict: bool = True) -> None:
    """A redirect to this mirror under another host name (or `host`).

    `strict`: as presigned storage does, the new address answers 400 to whoever brings an Authorization header.
    """
    if x.unsigned():
        signed = x.desk.sign(x.path, strict=strict)
        x.say(status, "", Location=x.desk.url(signed, host=host or x.desk.other_name(x.request)))


def expiring(
    x: Exchange, *, uses: int | None = 3, seconds: float | None = None, status: int = 302, strict: bool = True
) -> None:
    """A redirect to another host name; the address given is good for `uses` requests or `seconds`, then answers 403.

    The original address gives a new one every time.
    """
    if x.unsigned():
        signed = x.desk.sign(x.path, uses=uses, seconds=seconds, strict=strict)
        x.say(status, "", Location=x.desk.url(signed, host=x.desk.other_name(x.request)))
