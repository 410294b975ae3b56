"""Show a push: a live table on a terminal, lines for each layer elsewhere. Everything goes to stderr."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

    from gesso.builder.registry.local_image import LocalImage
    from gesso.builder.registry.push import Step

_EVERY = 10.0  # seconds between two progress lines of a layer, without a terminal


class PushView:
    """Shows steps as they arrive; use as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._made_by: dict[str, str] = {}
        self._steps: dict[str, Step] = {}
        self._last_report: dict[str, float] = {}
        self._live: Live | None = None

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

    def watch(self, image: LocalImage) -> None:
        """Set the image, for the instructions that made its layers."""
        self._made_by = {layer.diff_id.removeprefix("sha256:")[:12]: layer.made_by for layer in image.layers}

    def on_progress(self, line: str) -> None:
        """Print a permanent line."""
        self._console.print(Text(line), soft_wrap=True)

    def on_step(self, step: Step) -> None:
        """Handle the progress of one layer."""
        before = self._steps.get(step.layer)
        self._steps[step.layer] = step
        now = time.monotonic()
        if step.state in ("pushed", "retrying") and (before is None or before.state != step.state):
            self.on_progress(f"  {self._line(before if before and before.total else step, step.state)}")
        elif (
            step.state == "pushing"
            and self._live is None
            and now - self._last_report.setdefault(step.layer, now) >= _EVERY
        ):
            self._last_report[step.layer] = now
            self.on_progress(f"  {self._line(step, 'pushing')}")

    def end(self) -> None:
        """Print how many layers existed already, and reset."""
        existing = sum(step.state in ("exists", "mounted") for step in self._steps.values())
        if existing:
            self.on_progress(f"  {existing} of {len(self._steps)} layers existed already")
        self._steps.clear()

    def _line(self, step: Step, state: str) -> str:
        total = max(step.total, step.done)
        size = f"{step.done / 1e6:9,.1f} of {total / 1e6:9,.1f} MB" if total else ""
        return f"{state:<10} {step.layer}  {size}  {self._made_by.get(step.layer, '')[:60]}".rstrip()

    def _table(self) -> Group:
        pushing = [step for step in self._steps.values() if step.state == "pushing"]
        return Group(*(Text(f"  {self._line(step, 'pushing')}", no_wrap=True) for step in pushing[:10]))
