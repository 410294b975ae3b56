"""Adapt the number of connections: add more while each addition pays off. Pure.

Some hosts cap each connection (8.7 MB/s was seen), so one is slow and sixteen are fast; on a thin link, or a fast one,
further connections only cost. So the best number is found by measuring.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gesso.models.net.limits import MOST

FIRST = 2
_GAIN = 0.5  # of what proportional growth would bring: below that, more connections are not worth it
_PLENTY = 200e6  # bytes a second of one connection: the host does not cap it, and more connections only compete
_SETTLE = 0.6  # seconds at a number of connections before it is judged
_AGAIN = 8.0  # seconds until more are tried once more


@dataclass(frozen=True)
class ConnectionCount:
    """The number of connections in use, and what was measured with fewer. Rates in bytes a second, times in seconds."""

    connections: int = FIRST
    most: int = MOST
    since: float = 0.0  # when this number began
    counted: int = 0  # bytes that had come by then
    before: tuple[int, float] | None = None  # connections and rate that this number must beat
    settled: bool = False

    def after(self, now: float, total: int) -> ConnectionCount:
        """Return the number from `now` on, with `total` bytes received so far."""
        elapsed = now - self.since
        if elapsed < (_AGAIN if self.settled else _SETTLE) or (self.connections >= self.most and self.settled):
            return self
        rate = (total - self.counted) / elapsed
        if self.before is not None:
            fewer, slower = self.before
            due = slower * (1 + _GAIN * (self.connections - fewer) / fewer)
            if rate <= due:
                return ConnectionCount(fewer, self.most, now, total, None, settled=True)
        if self.connections >= self.most or rate >= _PLENTY * self.connections:
            return replace(self, since=now, counted=total, before=None, settled=True)
        more = min(self.most, self.connections * 2)
        return ConnectionCount(more, self.most, now, total, (self.connections, rate), settled=False)
