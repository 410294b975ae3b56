"""The queue of blocks to fetch, handed out in parts: the lowest first, so that hashing can follow."""

from __future__ import annotations

import heapq
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SMALLEST, LARGEST = 32, 128  # blocks of a part: 16 MiB, 64 MiB


class BlockQueue:
    """Ranges of blocks: first, and the one after the last. Thread-safe."""

    def __init__(self, runs: Iterable[tuple[int, int]]) -> None:
        self._runs = list(runs)
        heapq.heapify(self._runs)
        self._guard = threading.Lock()

    @property
    def blocks(self) -> int:
        """The number of blocks in the queue."""
        with self._guard:
            return sum(end - start for start, end in self._runs)

    def take(self, wanted: int, workers: int) -> tuple[int, int] | None:
        """Return a part of about `wanted` blocks; smaller ones near the end, so that all `workers` finish together."""
        with self._guard:
            if not self._runs:
                return None
            start, end = heapq.heappop(self._runs)
            left = end - start + sum(e - s for s, e in self._runs)
            fair = max(1, left // (2 * max(1, workers)))
            size = min(max(SMALLEST, wanted), LARGEST, fair)
            if end - start > size:
                heapq.heappush(self._runs, (start + size, end))
                end = start + size
            return start, end

    def give_back(self, start: int, end: int) -> None:
        """Put the rest of a part back."""
        if start < end:
            with self._guard:
                heapq.heappush(self._runs, (start, end))
