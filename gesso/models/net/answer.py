"""The head of an HTTP answer, read strictly: what it says of length and range must make sense, or it is a fault."""

from __future__ import annotations

import http.client
import io
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from gesso.models.faults import SourceError

if TYPE_CHECKING:
    import socket

    from gesso.models.net.hosts import Announced


@dataclass(frozen=True)
class Answer:
    """The head of an answer; the body is still on the wire. `url` answered, after the redirects."""

    status: int
    headers: http.client.HTTPMessage
    url: str
    announced: Announced

    @property
    def length(self) -> int | None:
        """Bytes of body that are announced, if any."""
        stated = {value.strip() for value in self.headers.get_all("Content-Length", [])}
        if not stated or self.headers.get("Transfer-Encoding"):
            return None
        if len(stated) > 1 or not re.fullmatch(r"[0-9]{1,18}", text := stated.pop()):
            raise SourceError("bad-answer", "its Content-Length makes no sense")
        return int(text)

    @property
    def range(self) -> tuple[int, int, int | None] | None:
        """First byte, the one after the last, and the whole file's size (None: unknown), of a 206.

        Raises SourceError for a 206 that does not say so.
        """
        if self.status != http.client.PARTIAL_CONTENT:
            return None
        match = re.fullmatch(
            r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", self.headers.get("Content-Range", "").strip(), re.IGNORECASE
        )
        if match is None:
            raise SourceError("bad-range", "a part without saying which (Content-Range)")
        start, last = int(match[1]), int(match[2])
        total = None if match[3] == "*" else int(match[3])
        if last < start or (total is not None and last >= total):
            raise SourceError("bad-range", f"a part that makes no sense: {match[0][:80]}")
        return start, last + 1, total

    @property
    def etag(self) -> str | None:
        """The strong validator, if it has one: a weak one may change while the bytes stay."""
        etag = self.headers.get("ETag", "").strip()
        return etag if etag and not etag.startswith("W/") else None


_INTERIM = 16  # answers ahead of the real one that are stepped over


class _Dripping(io.RawIOBase):
    """What a socket gives, until a moment: a server that sends a byte now and then never meets a socket's timeout."""

    def __init__(self, raw: Any, until: float) -> None:
        self._raw = raw
        self.until: float | None = until  # time.monotonic()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.until is not None and time.monotonic() > self.until:
            raise TimeoutError
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class Response(http.client.HTTPResponse):
    """Its head is due `within` so many seconds; interim answers (103 Early Hints, not only 100) are stepped over."""

    def __init__(self, sock: socket.socket, *args: Any, within: float = 60, **more: Any) -> None:
        self._dripping = _Dripping(sock.makefile("rb", 0), time.monotonic() + within)
        super().__init__(sock, *args, **more)
        self.fp.close()
        self.fp = io.BufferedReader(self._dripping)

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        self._dripping.until = None  # how fast a body must come is not decided here

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 < status < 200 or status == 101:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"{_INTERIM} interim answers and no real one")


def retry_after(text: str | None) -> float | None:
    """Give the seconds that `Retry-After` asks for, as a number or a date."""
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text.strip())
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
