"""The mirror's state: the rules, the signed URLs, and the log."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from .behaviours import Rule

LOG = 20_000


@dataclass(frozen=True, slots=True)
class Record:
    """One request and its response; `sent` counts bytes of body passed to the kernel, encoded or not."""

    method: str
    path: str  # decoded, without the query
    target: str  # as it was sent
    headers: Mapping[str, str]  # names in lowercase
    range: str | None  # the header
    span: tuple[int, int] | None  # the same as (first byte, number of bytes), for the file as it is
    status: int  # 0: nothing was sent
    sent: int
    port: int  # the client's
    connection: int  # numbers connections: two requests with the same one shared it
    behaviours: tuple[str, ...]
    began: float  # time.monotonic()


@dataclass(slots=True)
class SignedUrl:
    """A signed URL's file and validity."""

    path: str
    uses: int | None
    expires: float | None
    strict: bool
    etag: str


@dataclass(slots=True)
class LogEntry:
    """An entry of the log whose count still grows; only the thread of its connection adds to it."""

    record: Record
    sent: int = 0

    def count(self, sent: int) -> None:
        """Add to the sent bytes."""
        self.sent += sent


@dataclass(slots=True)
class State:
    """Everything that `reset` clears."""

    rules: dict[str, list[Rule]] = field(default_factory=dict)
    signed_urls: dict[str, SignedUrl] = field(default_factory=dict)
    log: deque[LogEntry] = field(default_factory=lambda: deque(maxlen=LOG))
    refusing: int = 0  # how many more connections to refuse; -1: all
