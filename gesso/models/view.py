"""Show the progress of a fetch: bars on a terminal, else a line every five seconds and at each change of state."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gesso.models import progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.models.events import Event

EVERY = 5.0  # seconds between two lines
CHANGES = {"quarantined", "switched", "retrying", "done", "skipped", "failed", "waiting"}


class FetchView:
    """Draws events to stderr. `on_progress` prints a line, above the bars if there are any."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._last = clock()
        self.board = progress.Board()
        self._live: Live | None = None
        self._guard = threading.Lock()  # rich draws from its own thread

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=5, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def on_progress(self, text: str) -> None:
        """Print a line."""
        self._console.print(Text(text), soft_wrap=True)

    def on_event(self, event: Event) -> None:
        """Process an event."""
        now, said = self._clock(), ""
        with self._guard:
            row = self.board.feed(event, now)
            if event.kind in CHANGES or (event.kind == "there" and event.message):
                said = change_line(row)
            elif self._live is None and row.active and now - self._last >= EVERY:
                self._last = now
                said = progress.line(self.board)
        if said:
            self.on_progress(said)

    def _table(self) -> Table:
        with self._guard:
            return self._drawn()

    def _drawn(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for row in self.board.active:
            table.add_row(*_cells(row.name, row.done, row.size, row.rate, row.left, f"{row.state} {row.source}"))
        done, wanted, rate, left = self.board.totals()
        ended = sum(row.ended for row in self.board.rows.values())
        table.add_row(*_cells("all", done, wanted, rate, left, f"{ended} of {len(self.board.rows)} models"))
        return table


def change_line(row: progress.Row) -> str:
    """Return the line for a change of state."""
    said = f": {row.message}" if row.message else ""
    if row.kind in {"done", "there"}:
        said = f", {progress.size(row.done)}" + (f" from {row.source}" if row.source else "") + said
    elif row.kind == "switched":
        said = f" ({row.source}){said}"
    return f"{row.name}: {row.state}{said}"


def _cells(name: str, done: int, size: int | None, rate: float, left: float | None, note: str) -> tuple[Any, ...]:
    short = name.rsplit("/", 1)[-1]
    return (
        Text(short if len(short) <= 36 else f"{short[:33]}..."),
        ProgressBar(total=size or None, completed=done, width=24, pulse=size is None),
        Text(f"{progress.size(done)} of {progress.size(size)}" if size else progress.size(done), justify="right"),
        Text(f"{progress.size(rate)}/s" if rate else "", justify="right"),
        Text(progress.duration(left) if left is not None else "", justify="right"),
        Text(note),
    )
