"""What the mirror remembers: the rules, the addresses it signed, and the log."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from .behaviours import Rule

LOG = 20_000


@dataclass(frozen=True, slots=True)
class Record:
    """One request and what came of it; `sent` counts bytes of body handed to the kernel, encoded or not."""

    method: str
    path: str  # decoded, without the query
    target: str  # as it was sent
    headers: Mapping[str, str]  # names in small letters
    range: str | None  # the header
    span: tuple[int, int] | None  # the same as (first byte, number of bytes), for the file as it is
    status: int  # 0: none was sent
    sent: int
    port: int  # the client's
    connection: int  # numbers connections: two requests with the same one shared it
    behaviours: tuple[str, ...]
    began: float  # time.monotonic()


@dataclass(slots=True)
class Ticket:
    """What a signed address stands for, and how long."""

    path: str
    uses: int | None
    until: float | None
    strict: bool
    etag: str


@dataclass(slots=True)
class Line:
    """A line of the log whose count still grows; only the thread of its connection adds to it."""

    record: Record
    sent: int = 0

    def count(self, sent: int) -> None:
        """Add to it."""
        self.sent += sent


@dataclass(slots=True)
class State:
    """All that `reset` forgets."""

    rules: dict[str, list[Rule]] = field(default_factory=dict)
    tickets: dict[str, Ticket] = field(default_factory=dict)
    log: deque[Line] = field(default_factory=lambda: deque(maxlen=LOG))
    refusing: int = 0  # how many connections more; -1: all
