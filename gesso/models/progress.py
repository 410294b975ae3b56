"""Progress of a fetch: folds events into rows and totals, with rates and time left. Pure: the time is an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gesso.models.events import Event

WINDOW = 5.0  # seconds over which a rate is taken
WORDS = {
    "planned": "waits its turn", "waiting": "waits for another process", "checking": "being checked",
    "quarantined": "bad, put aside", "started": "fetching", "progress": "fetching", "retrying": "trying again",
    "switched": "next source", "done": "done", "there": "was there", "skipped": "left out", "failed": "failed",
}  # fmt: skip
_ACTIVE = {"started", "progress", "retrying", "switched", "checking"}
_ENDED = {"done", "there", "skipped", "failed"}


@dataclass
class Row:
    """One model. Bytes; `rate` in bytes a second."""

    name: str
    tier: str
    size: int | None = None
    done: int = 0
    kind: str = "planned"
    source: str = ""
    message: str = ""
    connections: int = 0
    samples: deque[tuple[float, int]] = field(default_factory=deque, repr=False)

    @property
    def state(self) -> str:
        """Its state, as text."""
        return WORDS[self.kind]

    @property
    def active(self) -> bool:
        """Whether bytes are being transferred."""
        return self.kind in _ACTIVE

    @property
    def ended(self) -> bool:
        """Whether it is finished."""
        return self.kind in _ENDED

    @property
    def rate(self) -> float:
        """Bytes a second, over the last few seconds."""
        if len(self.samples) < 2:
            return 0.0
        (begun, first), (now, last) = self.samples[0], self.samples[-1]
        return max(0.0, (last - first) / (now - begun)) if now > begun else 0.0

    @property
    def left(self) -> float | None:
        """Seconds left, if known."""
        if self.size is None or not self.rate or self.ended:
            return None
        return max(0, self.size - self.done) / self.rate


@dataclass
class Board:
    """Every model of a fetch."""

    rows: dict[str, Row] = field(default_factory=dict)

    def feed(self, event: Event, now: float) -> Row:
        """Process an event at `now` (seconds of a monotonic clock); return its row."""
        row = self.rows.setdefault(event.name, Row(event.name, event.tier))
        if row.kind == "checking" and event.kind != "checking":
            row.samples.clear()
        row.kind, row.size = event.kind, event.size if event.size is not None else row.size
        row.source, row.message, row.connections = event.source or row.source, event.message, event.connections
        if event.kind in _ACTIVE:
            if event.done < row.done:
                row.samples.clear()  # it was restarted
            row.samples.append((now, event.done))
            while len(row.samples) > 2 and row.samples[0][0] < now - WINDOW:
                row.samples.popleft()
        if event.kind not in {"quarantined", "waiting", "failed", "skipped"}:
            row.done = event.done
        return row

    @property
    def active(self) -> list[Row]:
        """The active rows, the most advanced first."""
        return sorted((row for row in self.rows.values() if row.active), key=lambda row: -row.done)

    def totals(self) -> tuple[int, int, float, float | None]:
        """Return bytes done, total bytes, bytes per second, and seconds left (None: unknown)."""
        counted = [row for row in self.rows.values() if row.kind not in {"skipped", "failed"}]
        done = sum(row.done for row in counted)
        wanted = sum(max(row.size or 0, row.done) for row in counted)
        rate = sum(row.rate for row in counted if row.active)
        return done, wanted, rate, (wanted - done) / rate if rate else None


def line(board: Board) -> str:
    """Return the whole state in one line."""
    done, wanted, rate, left = board.totals()
    ended = sum(row.ended for row in board.rows.values())
    parts = [f"{ended} of {len(board.rows)} models", f"{size(done)} of {size(wanted)}", f"{size(rate)}/s"]
    parts += [f"{duration(left)} left"] if left is not None else []
    parts += [_one(row) for row in board.active[:1]]
    return ", ".join(parts)


def _one(row: Row) -> str:
    share = f" {min(100, 100 * row.done // row.size)} %" if row.size else ""
    return f"{row.name}{share} {row.state}{f' from {row.source}' * bool(row.source)}"


def summary(rows: Iterable[Row]) -> str:
    """Return the number of models in each final state."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.state] = counts.get(row.state, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def size(count: float) -> str:
    """Format a size in bytes for people, in powers of ten."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """Format a duration for people."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
