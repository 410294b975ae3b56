"""Faults in how it is said: broken lengths, broken connections, broken HTTP, and redirects that lead nowhere good."""

from __future__ import annotations

import urllib.parse

from .exchange import Exchange
from .faults import place
from .wire import Ending, Reply


def cut(x: Exchange, *, at: float = 0.5, ending: Ending = "close") -> None:
    """The body ends `at` bytes (a fraction: of this body; < 0: from its end) under an honest Content-Length.

    Then the connection is closed, reset, or stays open and silent ("stall").
    """

    def edit(reply: Reply) -> None:
        x.delivery.cut_at, x.delivery.ending = place(at, reply.body.length), ending

    x.later(edit)


def silent(x: Exchange, *, ending: Ending = "stall") -> None:
    """The request is read, and not a byte comes back: the connection stalls, is closed, or is reset."""
    x.delivery.mute, x.delivery.ending = True, ending


def trickle(x: Exchange, *, rate: float = 1, head: bool = False) -> None:
    """`rate` bytes a second, of the head already if so wanted."""
    x.delivery.rate = rate
    if head:
        x.delivery.slow_head = rate


def refuse(x: Exchange, *, connections: int = 8) -> None:
    """Reset this request, and close the next so many connections as soon as they are accepted (0: until reset)."""
    x.desk.refuse(connections)
    silent(x, ending="reset")


def length(x: Exchange, *, value: str | None = None, off: int = 0, ending: Ending = "close") -> None:
    """A Content-Length that is off by so much, or reads `value` ("": there is none, the body ends with the connection).

    With a length too high, `ending` says whether the connection closes or stalls where the body ends.
    """

    def edit(reply: Reply) -> None:
        x.close = True
        if value == "":
            reply.lengthless = True
        else:
            reply.put("Content-Length", value or str(max(0, reply.body.length + off)))
            x.delivery.ending = ending

    x.later(edit)


def two_lengths(x: Exchange, *, off: int = -1) -> None:
    """Two Content-Length headers that contradict each other."""

    def edit(reply: Reply) -> None:
        x.close = True
        reply.headers += [("Content-Length", str(reply.body.length + more)) for more in (off, 0)]

    x.later(edit)


def endless(x: Exchange, *, chunked: bool = False) -> None:
    """After the body come zeros for ever, chunked or not; there is no length."""
    x.delivery.endless = True
    x.later(lambda reply: setattr(reply, "chunked", chunked))
    x.later(lambda reply: reply.drop("Content-Length"))


def bad_chunks(x: Exchange, *, line: str = "zz") -> None:
    """Chunked, and `line` stands where the size of a chunk should be."""
    x.delivery.chunk_line = line.encode("latin-1")
    x.close = True
    x.later(lambda reply: setattr(reply, "chunked", True))


def unended_chunks(x: Exchange) -> None:
    """Chunked, all of the body comes, but the last chunk never does: the connection closes."""

    def edit(reply: Reply) -> None:
        reply.chunked = True
        x.delivery.cut_at, x.delivery.ending = reply.body.length, "close"

    x.later(edit)


def raw(x: Exchange, *, text: str = "SSH-2.0-OpenSSH_9.2p1\r\n") -> None:
    """These bytes instead of an answer."""
    x.delivery.instead = text.encode("latin-1")


def first_line(x: Exchange, *, line: str = "HTTP/1.1 999 Odd") -> None:
    """Another status line, with the rest as it should be."""
    x.delivery.spell = lambda head: line.encode("latin-1") + b"\r\n" + head.partition(b"\r\n")[2]
    x.close = True


def huge_header(x: Exchange, *, size: int = 1 << 20, count: int = 1) -> None:
    """Headers that long."""
    x.later(lambda reply: reply.headers.extend((f"X-Huge-{at}", "x" * size) for at in range(count)))


def loop(x: Exchange, *, status: int = 302, fresh: bool = False) -> None:
    """A redirect to the same address, or to a `fresh` one every time, without end."""
    at = int(x.request.query.get("hop", "0")) + 1
    x.say(status, "", Location=f"{urllib.parse.quote(x.request.path)}?hop={at}" if fresh else x.request.target)


def nowhere(x: Exchange, *, status: int = 302) -> None:
    """A redirect that does not say where to."""
    x.say(status, "moved\n")


def downgrade(x: Exchange, *, status: int = 302) -> None:
    """A redirect to plain http on this host; it means something on a mirror that has `tls`."""
    plain = x.desk.url(x.path).replace("https://", "http://", 1)
    x.say(status, "", Location=plain)
