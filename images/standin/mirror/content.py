"""What a file is (one version of its bytes), and how an honest server answers a request for it.

Faults that concern *what* is sent make another `Content` and let the honest answer be given for that, so that
ranges, entity tags and lengths agree with each other: the nastiest files are those whose transport is in order.
"""

from __future__ import annotations

import email.utils
import hashlib
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .wire import Body, Reply, Request

BINARY = "application/octet-stream"
EPOCH = 1_700_000_000.0  # for files that are only in memory: the same in every run
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$", re.ASCII)
_TEXT_PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Content:
    """One version of a file. What lies beyond the end of `data`, up to `size`, is `filler` over and over."""

    data: bytes | Path
    size: int
    etag: str | None
    modified: float | None = EPOCH
    type: str = BINARY
    filler: bytes = b"\0"
    flips: tuple[int, ...] = ()  # offsets whose byte is inverted
    mask: int = 0  # every byte is XORed with this
    ranges: bool = True

    @classmethod
    def of(cls, data: bytes | Path) -> Content:
        """Take a file as it is now."""
        if isinstance(data, bytes):
            return cls(data, len(data), _tag(data))
        stat = data.stat()
        return cls(data, stat.st_size, f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"', float(int(stat.st_mtime)))

    def body(self, start: int = 0, length: int | None = None) -> Body:
        """Give a part of it, or all of it, as something that can be sent."""
        length = self.size - start if length is None else length
        return Body(self.data, start, max(0, length), self.filler, self.flips, self.mask)

    def sha256(self) -> str:
        """Hash the bytes as they would be sent; a file on disk only once for each of its versions."""
        return _sha256(self)

    def sha1(self) -> str:
        """Hash it as git does a blob: the entity tag that Hugging Face gives for small files."""
        digest = hashlib.sha1(f"blob {self.size}\0".encode(), usedforsecurity=False)
        for piece in self.body().pieces(1 << 20):
            digest.update(piece)
        return digest.hexdigest()


@lru_cache(maxsize=16)
def _tag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'


@lru_cache(maxsize=16)
def _sha256(content: Content) -> str:
    digest = hashlib.sha256()
    for piece in content.body().pieces(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def date(seconds: float) -> str:
    """Write a time as HTTP wants it."""
    return email.utils.formatdate(seconds, usegmt=True)


def span(wanted: str | None, size: int) -> tuple[int, int] | None:
    """Read a Range header as (first byte, number of bytes); None: whole file; a number of 0: not satisfiable.

    Several ranges, other units and nonsense are ignored, as the standard lets a server do.
    """
    found = _RANGE.match((wanted or "").replace(" ", ""))
    if not found or found.group(0) == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        length = min(int(last), size)
        return size - length, length
    if last and int(last) < int(first):
        return None
    return int(first), max(0, min(int(last or size), size - 1) - int(first) + 1)


def _precondition(request: Request, content: Content) -> int | None:
    """Say with which status a precondition fails, if one does."""
    tags = {name: {tag.strip() for tag in request.headers.get(name, "").split(",")} for name in _TAGGED}
    modified = date(content.modified) if content.modified is not None else None
    if "if-match" in request.headers:
        if "*" not in tags["if-match"] and (content.etag not in tags["if-match"] or _weak(content.etag)):
            return 412
    elif content.modified is not None and content.modified > _seconds(request.headers.get("if-unmodified-since")):
        return 412
    if "if-none-match" in request.headers:
        bare = {tag.removeprefix("W/") for tag in tags["if-none-match"]}
        return 304 if "*" in bare or (content.etag or "").removeprefix("W/") in bare - {""} else None
    return 304 if modified and request.headers.get("if-modified-since") == modified else None


_TAGGED = ("if-match", "if-none-match")


def _weak(etag: str | None) -> bool:
    return etag is None or etag.startswith("W/")


def _seconds(text: str | None) -> float:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() if text else math.inf
    except ValueError:
        return math.inf


def _still_the_same(request: Request, content: Content) -> bool:
    """Answer If-Range: only a strong entity tag or the exact date lets the range be served."""
    if (wanted := request.headers.get("if-range")) is None:
        return True
    if wanted.startswith('"'):
        return wanted == content.etag
    return content.modified is not None and wanted == date(content.modified)


def answer(request: Request, content: Content | None) -> Reply:
    """Answer honestly, as a plain file server of today does."""
    if content is None:
        return Reply(404, [("Content-Type", _TEXT_PLAIN)], Body.text("Not Found"))
    if request.method not in {"GET", "HEAD"}:
        return Reply(405, [("Allow", "GET, HEAD"), ("Content-Type", _TEXT_PLAIN)], Body.text("Method Not Allowed"))
    headers = [("Content-Type", content.type)]
    headers += [("Accept-Ranges", "bytes")] if content.ranges else []
    headers += [("ETag", content.etag)] if content.etag else []
    headers += [("Last-Modified", date(content.modified))] if content.modified is not None else []
    if status := _precondition(request, content):
        return Reply(status, headers, Body())
    asked = span(request.headers.get("range"), content.size)
    if asked is None or request.method == "HEAD" or not content.ranges or not _still_the_same(request, content):
        return Reply(200, headers, content.body())
    first, length = asked
    if not length:
        return Reply(416, [*headers, ("Content-Range", f"bytes */{content.size}")], Body.text("Range Not Satisfiable"))
    headers.append(("Content-Range", f"bytes {first}-{first + length - 1}/{content.size}"))
    return Reply(206, headers, content.body(first, length))
