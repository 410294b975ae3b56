"""Transfer from one source to the partial file: several connections share the blocks, or one stream where necessary.

Workers only take parts, read and write; the thread that calls `run` watches, adapts their number, and decides.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from gesso.models.download.block_queue import BlockQueue
from gesso.models.download.concurrency import FIRST, ConnectionCount
from gesso.models.faults import ContentError, SourceError, cut_off
from gesso.models.net.http import HttpConnection, stalled_error
from gesso.models.net.limits import BLOCK
from gesso.models.net.source import check_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.models.download.hashing import Follower
    from gesso.models.download.journal import Partial
    from gesso.models.net.client import Client
    from gesso.models.net.limits import Limits
    from gesso.models.net.source import Source

_TICK = 0.1  # seconds between two looks at how it goes
_ASKING = 20  # a part takes at least so many times as long as asking for it


class Transfer:
    """One attempt at one source; for a single use."""

    def __init__(
        self,
        client: Client,
        source: Source,
        partial: Partial,
        follower: Follower,
        limits: Limits,
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._client, self._source, self._partial, self._follower = client, source, partial, follower
        self._limits, self._on_progress = limits, on_progress
        self._guard = threading.Condition()
        self._shares = BlockQueue(partial.missing())
        self._wires: list[HttpConnection] = []
        self._threads: list[threading.Thread] = []
        self._active = 0
        self._marked = 0  # blocks that came in
        self._received: list[int] = []  # bytes, by worker
        self._resting = 0  # workers that wait before a retry
        self._latency = 0.0  # seconds from a request to its answer, lately
        self._rate = 0.0  # bytes a second of the last part
        self._failed: Exception | None = None
        self._most = limits.connections if source.ranged else 1
        self._pace = ConnectionCount(connections=min(FIRST, self._most), most=self._most, since=time.monotonic())

    def run(self) -> None:
        """Fill the partial file. Raises SourceError, ContentError, and OSError of the local disk."""
        try:
            self._spend_head()
            self._hire(self._source.wire)
            self._watch()
        except BaseException:
            self._fail(cut_off("stopped"))
            raise
        finally:
            self._dismiss()
        if self._failed is not None:
            raise self._failed

    @property
    def received(self) -> int:
        """Bytes received."""
        return sum(self._received)

    # The watcher's side.

    def _watch(self) -> None:
        quiet_since, quiet_from = time.monotonic(), 0
        while True:
            with self._guard:
                if self._failed is not None or (not self._active and not self._shares.blocks):
                    return
                self._guard.wait(_TICK)
                if self._client.stopped:
                    self._failed = cut_off("stopped")
                    return
                resting = self._resting == self._active
            now, total = time.monotonic(), self.received
            self._on_progress(self._partial.bytes_done, self._active)
            if resting or total - quiet_from >= self._limits.floor * self._client.stall:
                quiet_since, quiet_from = now, total
            elif now - quiet_since > self._client.stall * 2:
                self._fail(stalled_error(now - quiet_since))
            if self._source.ranged:
                self._pace = self._pace.after(now, total)
                self._hire()

    def _hire(self, wire: HttpConnection | None = None) -> None:
        with self._guard:
            wanted = min(self._pace.connections, self._most, self._shares.blocks + self._active)
            while self._active < wanted and self._failed is None and (self._shares.blocks or wire):
                own = wire or HttpConnection(self._client)
                self._wires += [own] if own not in self._wires else []
                work = self._work if self._source.ranged else self._stream
                self._active += 1
                self._received.append(0)
                thread = threading.Thread(target=work, args=(own, len(self._received) - 1), daemon=True)
                self._threads.append(thread)
                thread.start()
                wire = None

    def _dismiss(self) -> None:
        for own in self._wires:
            if self._failed is not None:
                own.shut()
        with self._guard:
            self._guard.notify_all()
        for thread in self._threads:
            thread.join()
        for own in self._wires:
            own.leave()
        self._source.wire.leave()

    def _fail(self, fault: Exception) -> None:
        with self._guard:
            if self._failed is None:
                self._failed = fault
            self._guard.notify_all()

    # The workers' side.

    def _spend_head(self) -> None:
        """Write the blocks that were read to judge the source."""
        head = memoryview(bytes(self._source.head))
        for block in range(self._source.start // BLOCK, self._partial.blocks):
            first, end = self._partial.bounds(block)
            at = first - self._source.start
            if at < 0 or end - self._source.start > len(head) or not self._source.ranged:
                break
            if not self._partial.has(first, end):
                self._partial.write(first, head[at : end - self._source.start])
                self._partial.mark(block)
        self._shares = BlockQueue(self._partial.missing())
        self._follower.nudge()

    def _work(self, wire: HttpConnection, me: int) -> None:
        """Fetch parts until none is left; after a failure the rest of the part goes back to the queue."""
        buffer = memoryview(bytearray(BLOCK))
        failures, marked_then = 0, -1
        try:
            while part := self._next():
                started, at, end = time.monotonic(), *part
                try:
                    for block in range(at, end):
                        if not self._block(wire, block, end, buffer, me):
                            return
                        at = block + 1
                    elapsed = max(time.monotonic() - started, 1e-3)
                    self._rate = (end - part[0]) * BLOCK / elapsed
                except SourceError as fault:
                    wire.close()
                    failures = failures + 1 if self._marked == marked_then else 1
                    marked_then = self._marked
                    if not self._may_retry(fault, failures):
                        fault.transient = False  # what retries could do has been done
                        self._fail(fault)
                        return
                    self._shares.give_back(at, end)
                    self._rest(fault, failures)
        except Exception as fault:  # noqa: BLE001 - also what nobody expected: `run` raises it, where it is seen
            self._fail(fault)
        finally:
            wire.close()
            with self._guard:
                self._active -= 1
                self._guard.notify_all()

    def _block(self, wire: HttpConnection, block: int, end: int, buffer: memoryview, me: int) -> bool:
        """Read one block of the part that ends before block `end`; False if the transfer must stop."""
        first, last = self._partial.bounds(block)
        filled = 0
        while filled < last - first:
            if self._failed is not None or self._client.stopped:
                return False
            if asked := not wire.busy:
                self._ask(wire, first + filled, self._partial.bounds(end - 1)[1])
            count = wire.read_into(buffer[filled : last - first])
            if asked and count == 0:
                raise cut_off("an empty part")
            filled += count
            self._received[me] += count
        self._partial.write(first, buffer[:filled])
        self._partial.mark(block)
        self._marked += 1
        self._follower.nudge()
        return True

    def _ask(self, wire: HttpConnection, start: int, end: int) -> None:
        source, begun = self._source, time.monotonic()
        try:
            answer = wire.get(source.url, start=start, end=end, source=source.source)
        except SourceError as fault:
            if fault.transient or source.url == source.source:
                raise
            # A signed address has expired: the one that led to it makes another.
            answer = wire.get(source.source, start=start, end=end)
            source.url = answer.url
        wire.limit(check_part(answer, start, end, source))
        elapsed = time.monotonic() - begun
        self._latency = elapsed if not self._latency else 0.7 * self._latency + 0.3 * elapsed

    def _next(self) -> tuple[int, int] | None:
        """Return the next part; None if there is none, or if this worker is surplus."""
        with self._guard:
            wanted = self._pace.connections
            if self._failed is not None or (self._active > wanted and self._active > 1):
                return None
        return self._shares.take(int(self._rate * self._latency * _ASKING / BLOCK), min(wanted, self._most))

    def _may_retry(self, fault: SourceError, failures: int) -> bool:
        return (
            fault.transient and failures <= self._limits.retries and (fault.retry_after or 0) <= self._limits.patience
        )

    def _rest(self, fault: SourceError, failures: int) -> None:
        """Back off before a retry; an overloaded server gets fewer connections."""
        seconds = self._limits.backoff * 2 ** (failures - 1) * random.uniform(0.8, 1.2)  # noqa: S311 - not a secret
        seconds = min(max(seconds, fault.retry_after or 0), self._limits.patience)
        with self._guard:
            if fault.why in {"rate-limited", "server-error", "unreachable"}:
                self._most = max(1, min(self._most, self._active - 1))
            self._resting += 1
            until = time.monotonic() + seconds
            while self._failed is None and not self._client.stopped and (left := until - time.monotonic()) > 0:
                self._guard.wait(min(left, _TICK))
            self._resting -= 1

    def _stream(self, wire: HttpConnection, me: int) -> None:
        """Stream the whole body: the server does not support ranges. Bytes that exist already are skipped."""
        buffer = memoryview(bytearray(BLOCK))
        head = bytes(self._source.head)
        used = 0
        try:
            for block in range(self._partial.blocks):
                first, last = self._partial.bounds(block)
                filled = 0
                while filled < last - first:
                    if self._failed is not None or self._client.stopped:
                        return
                    if used < len(head):
                        count = min(len(head) - used, last - first - filled)
                        buffer[filled : filled + count] = head[used : used + count]
                        used += count
                    else:
                        count = wire.read_into(buffer[filled : last - first])
                        self._received[me] += count
                        if count == 0:
                            raise cut_off(f"the body ended after {first + filled:,} of {self._partial.size:,} bytes")
                    filled += count
                if not self._partial.has(first, last):
                    self._partial.write(first, buffer[:filled])
                    self._partial.mark(block)
                    self._marked += 1
                    self._follower.nudge()
            if wire.busy and wire.read_into(buffer[:1]):
                raise ContentError("oversized", f"the body goes on after the {self._partial.size:,} bytes of the lock")
            with self._guard:
                self._shares = BlockQueue([])
        except Exception as fault:  # noqa: BLE001 - as above
            self._fail(fault)
        finally:
            wire.close()
            with self._guard:
                self._active -= 1
                self._guard.notify_all()
