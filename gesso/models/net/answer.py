"""Read the head of an HTTP response strictly: inconsistent lengths and ranges are errors."""

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
    """The head of a response; the body is not read yet. `url` is the URL after the redirects."""

    status: int
    headers: http.client.HTTPMessage
    url: str
    announced: Announced

    @property
    def length(self) -> int | None:
        """The announced length of the body, if any."""
        stated = {value.strip() for value in self.headers.get_all("Content-Length", [])}
        if not stated or self.headers.get("Transfer-Encoding"):
            return None
        if len(stated) > 1 or not re.fullmatch(r"[0-9]{1,18}", text := stated.pop()):
            raise SourceError("bad-answer", "its Content-Length makes no sense")
        return int(text)

    @property
    def range(self) -> tuple[int, int, int | None] | None:
        """First byte, end, and the size of the whole file (None: unknown) of a 206 response.

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
        """The strong ETag, if any: a weak one may stay the same while the bytes change."""
        etag = self.headers.get("ETag", "").strip()
        return etag if etag and not etag.startswith("W/") else None


_INTERIM = 16  # interim responses (1xx) that are skipped


class _Dripping(io.RawIOBase):
    """A socket with a deadline: a server that sends single bytes never hits the socket's own timeout."""

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
    """A response whose head must arrive `within` seconds; interim responses (103 too, not only 100) are skipped."""

    def __init__(self, sock: socket.socket, *args: Any, within: float = 60, **more: Any) -> None:
        self._dripping = _Dripping(sock.makefile("rb", 0), time.monotonic() + within)
        super().__init__(sock, *args, **more)
        self.fp.close()
        self.fp = io.BufferedReader(self._dripping)

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        self._dripping.until = None  # the rate of the body is checked elsewhere

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 < status < 200 or status == 101:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"{_INTERIM} interim answers and no real one")


def retry_after(text: str | None) -> float | None:
    """Return the seconds that `Retry-After` requests, as a number or a date."""
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text.strip())
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
