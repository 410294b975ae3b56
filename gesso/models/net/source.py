"""Open a source: one request resolves its redirects and returns its metadata and first bytes."""

from __future__ import annotations

import http.client
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gesso.models.content import judge
from gesso.models.faults import ContentError, SourceError
from gesso.models.net import hosts
from gesso.models.net.http import HttpConnection, stalled_error
from gesso.models.net.limits import BLOCK, Limits

if TYPE_CHECKING:
    from gesso.manifest.schema import Model
    from gesso.models.net.answer import Answer
    from gesso.models.net.client import Client


@dataclass
class Source:
    """An opened source. `source` is the URL in the manifest (or its mirror), `url` the one after redirects.

    `head` holds the bytes from `start` that are read already; without `ranged` the rest of the body is on `wire`.
    """

    source: str
    url: str
    wire: HttpConnection
    ranged: bool
    size: int | None
    etag: str | None
    start: int
    head: bytearray = field(repr=False)

    @property
    def host(self) -> str:
        """Its host, for messages."""
        return host_of(self.source)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the file; requests more if needed. Raises SourceError."""
        end = offset + length if self.size is None else min(offset + length, self.size)
        if self.ranged and offset < self.start:
            return self._apart(offset, end)
        while len(self.head) < end - self.start and self._more(end):
            pass
        return bytes(self.head[offset - self.start : end - self.start])

    def _more(self, end: int) -> bool:
        at = self.start + len(self.head)
        if not self.ranged:
            return receive(self.wire, self.head, end - at) > 0
        answer = self.wire.get(self.url, start=at, end=end, source=self.source)
        return receive(self.wire, self.head, self._length(answer, at, end)) > 0

    def _apart(self, offset: int, end: int) -> bytes:
        """Read the bytes before `start`, where an earlier run stopped: the header may be incomplete."""
        out = bytearray()
        while offset + len(out) < end:
            at = offset + len(out)
            answer = self.wire.get(self.url, start=at, end=end, source=self.source)
            if not receive(self.wire, out, self._length(answer, at, end)):
                break
        return bytes(out)

    def _length(self, answer: Answer, start: int, end: int) -> int:
        length = check_part(answer, start, end, self)
        self.wire.limit(length)
        return length


def host_of(url: str) -> str:
    """Return the host of a URL."""
    return urlsplit(url).netloc


def open_source(client: Client, address: str, start: int, model: Model, *, whole: bool = False) -> Source:
    """Request one block from `start` (or the `whole` body); return the source with its first bytes read.

    Raises SourceError, and ContentError where the host itself says that its file is another.
    """
    source = hosts.address(address, client.env)
    wire = HttpConnection(client)
    try:
        known = model.size if model.size_confirmed else None  # else the file may be larger, or smaller
        end = start + BLOCK if known is None else min(start + BLOCK, known)
        answer = wire.get(source, start=start, end=end, ranged=not whole)
        found = Source(source, answer.url, wire, False, answer.length, answer.etag, 0, bytearray())
        if answer.status == http.client.PARTIAL_CONTENT:
            if whole:
                raise SourceError("bad-range", "a part although the whole file was requested")
            part = answer.range
            assert part is not None
            found = Source(source, answer.url, wire, True, part[2] or known, answer.etag, start, bytearray())
            length = check_part(answer, start, end, None)
            wire.limit(length)
            receive(wire, found.head, length)
        _announced(answer, model, source)
        if len(found.head) < end - start:
            found.read(found.start, end - start)
    except BaseException:
        wire.leave()
        raise
    return found


def _announced(answer: Answer, model: Model, source: str) -> None:
    said = answer.announced.sha256
    if said is not None and said != model.sha256 and hosts.HF_PATH.search(urlsplit(source).path):
        message = f"it announces sha256 {said}, the lock says {model.sha256}"
        raise ContentError("wrong-hash", message, "find out why the file changed; then correct the manifest")


def examine(found: Source, model: Model, start_is_here: bytes | None = None) -> None:
    """Judge a source's file before its body is fetched.

    `start_is_here`: the file's first bytes, where another run fetched them. Raises ContentError, SourceError.
    """

    def read(offset: int, length: int) -> bytes:
        if start_is_here is not None and offset + length <= len(start_is_here):
            return start_is_here[offset : offset + length]
        return found.read(offset, length)

    if fault := judge(model, read, found.size):
        raise fault


def check_part(answer: Answer, start: int, end: int, known: Source | None) -> int:
    """Check that a response is the requested part, or its beginning; return its length in bytes.

    Raises SourceError for another part, another file than before, or no part at all.
    """
    part = answer.range
    if part is None:
        raise SourceError("bad-range", "the whole file in answer to a request for a part", transient=False)
    first, last, total = part
    if first != start or last > end:
        raise SourceError("bad-range", f"bytes {first}-{last - 1} in answer to a request for {start}-{end - 1}")
    if answer.length is not None and answer.length != last - first:
        raise SourceError("bad-range", f"a part of {last - first} bytes in a body of {answer.length}")
    if known is not None:
        if total is not None and known.size is not None and total != known.size:
            raise changed_error(f"its file had {known.size:,} bytes and now has {total:,}")
        if known.etag is not None and answer.etag is not None and answer.etag != known.etag:
            raise changed_error("its ETag is another one than before")
    return last - first


def changed_error(how: str) -> SourceError:
    """Return the error of a file that changed while it was fetched."""
    return SourceError("changed", f"the file changed while it was fetched: {how}")


class Pulse:
    """Detects a source that sends single bytes, where no thread watches the transfer."""

    def __init__(self, stall: float) -> None:
        self._stall, self._since, self._got = stall, time.monotonic(), 0

    def beat(self, count: int) -> None:
        """Count bytes. Raises SourceError if so few arrived that the source is stalled."""
        self._got += count
        now = time.monotonic()
        if self._got >= Limits.floor * self._stall:
            self._since, self._got = now, 0
        elif now - self._since > 2 * self._stall:
            raise stalled_error(now - self._since)


def receive(wire: HttpConnection, into: bytearray, most: int) -> int:
    """Append up to `most` bytes of the body; return their number. Raises SourceError."""
    chunk = bytearray(min(most, 64 << 10))
    view, got, pulse = memoryview(chunk), 0, Pulse(wire.stall)
    while got < most and (count := wire.read_into(view[: min(len(chunk), most - got)])):
        into += view[:count]
        got += count
        if got < most:
            pulse.beat(count)
    return got
