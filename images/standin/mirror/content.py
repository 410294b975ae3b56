"""Content: one version of a file's bytes, and a correct server's response to a request for it.

Faults of the content create another `Content` and build the normal response for it, so that ranges, entity tags and
lengths agree with each other: wrong files are hardest to detect if their transport is correct.
"""

from __future__ import annotations

import email.utils
import hashlib
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .http1 import Body, Request, Response

BINARY = "application/octet-stream"
EPOCH = 1_700_000_000.0  # for files that are only in memory: the same in every run
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$", re.ASCII)
_TEXT_PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Content:
    """One version of a file. From the end of `data` up to `size`, `filler` is repeated."""

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
        """Return the current version of a file."""
        if isinstance(data, bytes):
            return cls(data, len(data), _tag(data))
        stat = data.stat()
        return cls(data, stat.st_size, f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"', float(int(stat.st_mtime)))

    def body(self, start: int = 0, length: int | None = None) -> Body:
        """Return a part, or all, of the content as a response body."""
        length = self.size - start if length is None else length
        return Body(self.data, start, max(0, length), self.filler, self.flips, self.mask)

    def sha256(self) -> str:
        """Return the SHA-256 of the bytes as sent; a file on disk is hashed once for each version."""
        return _sha256(self)

    def sha1(self) -> str:
        """Return the SHA-1 of the content as a git blob: Hugging Face's entity tag for small files."""
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
    """Format a time as an HTTP date."""
    return email.utils.formatdate(seconds, usegmt=True)


def resolve_offset(at: float, size: int) -> int:
    """Return the offset `at`: a number of bytes, a fraction of the size, or a negative number from the end."""
    at = int(at * size) if abs(at) < 1 else int(at)
    return at if at >= 0 else max(0, size + at)


def span(header: str | None, size: int) -> tuple[int, int] | None:
    """Parse a Range header as (first byte, number of bytes); None: whole file; a number of 0: not satisfiable.

    Multiple ranges, other units and malformed ones are ignored, as the standard allows.
    """
    found = _RANGE.match((header or "").replace(" ", ""))
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
    """Return the status with which a precondition fails, or None."""
    tags = {name: {tag.strip() for tag in request.headers.get(name, "").split(",")} for name in _TAGGED}
    modified = date(content.modified) if content.modified is not None else None
    if "if-match" in request.headers:
        if "*" not in tags["if-match"] and (content.etag not in tags["if-match"] or _weak(content.etag)):
            return 412
    elif content.modified is not None and content.modified > _seconds(request.headers.get("if-unmodified-since")):
        return 412
    if "if-none-match" in request.headers:
        opaque = {tag.removeprefix("W/") for tag in tags["if-none-match"]}
        return 304 if "*" in opaque or (content.etag or "").removeprefix("W/") in opaque - {""} else None
    return 304 if modified and request.headers.get("if-modified-since") == modified else None


_TAGGED = ("if-match", "if-none-match")


def _weak(etag: str | None) -> bool:
    return etag is None or etag.startswith("W/")


def _seconds(text: str | None) -> float:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() if text else math.inf
    except ValueError:
        return math.inf


def _if_range_matches(request: Request, content: Content) -> bool:
    """Evaluate If-Range: only a strong entity tag or the exact date allows a partial response."""
    if (validator := request.headers.get("if-range")) is None:
        return True
    if validator.startswith('"'):
        return validator == content.etag
    return content.modified is not None and validator == date(content.modified)


def normal_response(request: Request, content: Content | None) -> Response:
    """Return the response of a correct file server."""
    if content is None:
        return Response(404, [("Content-Type", _TEXT_PLAIN)], Body.text("Not Found"))
    if request.method not in {"GET", "HEAD"}:
        return Response(405, [("Allow", "GET, HEAD"), ("Content-Type", _TEXT_PLAIN)], Body.text("Method Not Allowed"))
    headers = [("Content-Type", content.type)]
    headers += [("Accept-Ranges", "bytes")] if content.ranges else []
    headers += [("ETag", content.etag)] if content.etag else []
    headers += [("Last-Modified", date(content.modified))] if content.modified is not None else []
    if status := _precondition(request, content):
        return Response(status, headers, Body())
    requested = span(request.headers.get("range"), content.size)
    if requested is None or request.method == "HEAD" or not content.ranges or not _if_range_matches(request, content):
        return Response(200, headers, content.body())
    first, length = requested
    if not length:
        return Response(
            416, [*headers, ("Content-Range", f"bytes */{content.size}")], Body.text("Range Not Satisfiable")
        )
    headers.append(("Content-Range", f"bytes {first}-{first + length - 1}/{content.size}"))
    return Response(206, headers, content.body(first, length))
