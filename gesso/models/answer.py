"""The head of an HTTP answer, read strictly: what it says of length and range must make sense, or it is a fault."""

from __future__ import annotations

import http.client
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from gesso.models.faults import SourceError

if TYPE_CHECKING:
    from gesso.models.hosts import Announced


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


class Response(http.client.HTTPResponse):
    """Steps over every interim answer (103 Early Hints), not only over 100."""

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 < status < 200 or status == 101:
                return version, status, reason
            http.client.parse_headers(self.fp)


def retry_after(text: str | None) -> float | None:
    """Give the seconds that `Retry-After` asks for, as a number or a date."""
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
