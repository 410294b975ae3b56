"""Show a build: a live table on a terminal, one line per step elsewhere. Everything goes to stderr."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from gesso.builder.image.progress import Event, Finished, Started, Transfer
from gesso.models import progress
from gesso.models.view import CHANGES, EVERY, change_line

if TYPE_CHECKING:
    from types import TracebackType

    from gesso.models.events import Event as ModelEvent

_SHORT = 0.15  # seconds: shorter steps get no line


class BuildView:
    """Shows events as they arrive; use as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._started = time.monotonic()
        self._running: dict[str, float] = {}
        self._bytes: dict[str, tuple[int, int]] = {}
        self._cached = 0
        self._live: Live | None = None
        self._models = progress.Board()
        self._last_report = self._started
        self._lock = threading.Lock()  # rich draws from its own thread

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self._cached:
            self.on_progress(f"{self._cached} steps from the cache")

    def on_progress(self, line: str) -> None:
        """Print a permanent line."""
        self._console.print(Text(f"[{time.monotonic() - self._started:6.1f}s] {line}"), soft_wrap=True)

    def on_event(self, event: Event) -> None:
        """Handle one event of the build."""
        match event:
            case Started(name):
                self._running[name] = time.monotonic()
            case Transfer(name, current, total):
                self._bytes[name.split(":")[0]] = (current, total)
            case Finished(name, seconds, cached):
                self._running.pop(name, None)
                self._cached += cached
                if seconds >= _SHORT:
                    self.on_progress(f"{name}  {seconds:.1f} s")

    def on_model(self, event: ModelEvent) -> None:
        """Handle one event of a model being fetched into the store."""
        now, line = time.monotonic(), ""
        with self._lock:
            row = self._models.feed(event, now)
            if event.kind in CHANGES:
                line = change_line(row)
            elif self._live is None and row.active and now - self._last_report >= EVERY:
                self._last_report = now
                line = progress.line(self._models)
        if line:
            self.on_progress(line)

    def _table(self) -> Group:
        now = time.monotonic()
        rows = [Text(f"building, {now - self._started:.0f} s", style="bold")]
        with self._lock:
            if self._models.active:
                rows.append(Text(f"  models: {progress.line(self._models)}", no_wrap=True))
        for name, began in list(self._running.items())[-8:]:
            current, total = self._bytes.get(name.split(":")[0], (0, 0))
            moved = f"  {current / 1e6:,.0f} of {total / 1e6:,.0f} MB" if total else ""
            rows.append(Text(f"  {now - began:5.0f} s  {name[:90]}{moved}", no_wrap=True))
        return Group(*rows)
