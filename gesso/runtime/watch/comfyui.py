"""Watch ComfyUI: whether it responds and has what Krita needs. Publish the workflows to Krita at each of its starts.

Programs that the supervisor gave up are restarted from here, at a bounded rate; so is the supervisor itself if it was
killed: in Vast's ssh and jupyter modes it is not the container's first process.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gesso.errors import CheckError
from gesso.runtime import locks
from gesso.runtime.layout import COMFY_PORT
from gesso.runtime.services import comfyui, krita
from gesso.runtime.state.state import Trouble

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from gesso.runtime.layout import Layout, Record
    from gesso.runtime.services.supervisord import Program, Supervisor

COMFYUI = "comfyui"
POLL_INTERVAL = 0.5  # seconds
_REQUEST_INTERVAL = 5.0  # seconds, once ComfyUI is up: its process is checked in every poll
_PUBLISH_RETRY = 10.0  # seconds
_MAX_MISSED_RESPONSES = 3  # in a row, until ComfyUI counts as down: it may be busy
_FIRST_BACKOFF, _MAX_BACKOFF = 5.0, 60.0  # seconds between two starts of a program that was given up
_POLLS_UNTIL_REVIVE = 6  # polls in a row without a supervisor until it is restarted


@dataclass
class ComfyuiState:
    """The observed state of ComfyUI. One thread writes it; others read single fields."""

    program: Program | None = None
    run_id: tuple[int, int] = (0, 0)
    starts: int = 0
    idle_starts: int = 0
    up: bool = False
    missed_responses: int = 0
    last_request: float = -1e9
    stats: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] | None = None
    published: bool = False
    publish_trouble: Trouble | None = None
    last_publish: float = -1e9


class ComfyuiWatch:
    """The loop that watches ComfyUI."""

    def __init__(
        self, layout: Layout, record: Record, supervisor: Supervisor, revive: Callable[[], None] = lambda: None,
        *, port: int = COMFY_PORT, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._layout, self._record, self._supervisor, self._revive = layout, record, supervisor, revive
        self._port, self._clock = port, clock
        self._polls_without_supervisor = 0
        self._given_up: dict[str, tuple[float, float]] = {}
        self.seen = ComfyuiState()
        self.errors: deque[tuple[float, str]] = deque(maxlen=8)

    def run(self, stop: threading.Event) -> None:
        """Poll until `stop` is set."""
        while True:
            try:
                self.poll()
            except Exception as error:  # noqa: BLE001 - the loop must survive an error in one round
                self._note(f"gesso: internal error: {type(error).__name__}: {error}")
            if stop.wait(POLL_INTERVAL):
                return

    def refused(self) -> Trouble | None:
        """Return why ComfyUI was not started, if the guard refused its start."""
        try:
            found = json.loads(comfyui.fault_file(self._layout).read_bytes())
            return Trouble(str(found["why"]), str(found["next"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def notes(self) -> tuple[str, ...]:
        """Return the differences from the lock that did not prevent the last start."""
        try:
            found = json.loads(comfyui.notes_file(self._layout).read_bytes())
            return tuple(str(text) for text in found)
        except (OSError, ValueError, TypeError):
            return ()

    def poll(self) -> None:
        """Check everything once, and act on it."""
        try:
            programs = self._supervisor.programs()
        except CheckError:
            self._polls_without_supervisor += 1
            if self._polls_without_supervisor == _POLLS_UNTIL_REVIVE:
                self._revive()
        else:
            self._polls_without_supervisor = 0
            self._record_program(programs.get(COMFYUI))
            self._restart_failed(programs.values())
        self._query()
        if self.seen.up and self.seen.missing == () and not self.seen.published:
            self._publish()

    def _record_program(self, program: Program | None) -> None:
        seen = self.seen
        seen.program = program
        if program is None or program.run_id == seen.run_id:
            return
        if program.pid:
            if seen.starts:
                before = "" if seen.up else "ended before it responded; it "
                self._note(f"ComfyUI {before}was restarted")
            seen.starts += 1
            seen.idle_starts += 1
            seen.run_id = program.run_id
        seen.up, seen.missing, seen.published, seen.publish_trouble = False, None, False, None
        seen.last_request = seen.last_publish = -1e9

    def _restart_failed(self, programs: Iterable[Program]) -> None:
        now = self._clock()
        for program in programs:
            if program.state == "RUNNING":
                self._given_up.pop(program.name, None)
            elif program.state == "FATAL":
                next_start, wait = self._given_up.get(program.name, (now + _FIRST_BACKOFF, _FIRST_BACKOFF))
                if now >= next_start:
                    self._note(f"{program.name} failed to stay up; restarting it")
                    with contextlib.suppress(CheckError):
                        self._supervisor.start(program.name)
                    wait = min(_MAX_BACKOFF, 2 * wait)
                    next_start = now + wait
                self._given_up[program.name] = (next_start, wait)
            elif program.state == "STOPPED" and program.name == COMFYUI and self._restart_pending():
                with contextlib.suppress(CheckError):
                    self._supervisor.start(program.name)

    def _restart_pending(self) -> bool:
        """Return whether a heal that had stopped ComfyUI was killed before restarting it."""
        return self._layout.pending_restart.exists() and not locks.is_held(self._layout.heal_lock)

    def _query(self) -> None:
        seen, now = self.seen, self._clock()
        if seen.up and now - seen.last_request < _REQUEST_INTERVAL:
            return
        seen.last_request = now
        try:
            stats = comfyui.get_json("/system_stats", timeout=5.0, port=self._port)
            if seen.missing is None:
                seen.missing = comfyui.missing_classes(self._record.classes, port=self._port)
                if seen.missing:
                    self._note(f"ComfyUI lacks {', '.join(seen.missing)}")
        except CheckError:
            seen.missed_responses += 1
            if seen.missed_responses >= _MAX_MISSED_RESPONSES:
                seen.up = False
            return
        seen.stats = stats if isinstance(stats, dict) else {}
        seen.missed_responses, seen.idle_starts, seen.up = 0, 0, True

    def _publish(self) -> None:
        seen, now = self.seen, self._clock()
        if now - seen.last_publish < _PUBLISH_RETRY:
            return
        seen.last_publish = now
        try:
            krita.publish(self._layout, self._record, lambda _: None, self._port)
        except CheckError as error:
            seen.publish_trouble = Trouble(error.message, error.next_step)
            self._note(error.message)
        else:
            seen.published, seen.publish_trouble = True, None

    def _note(self, text: str) -> None:
        if not self.errors or self.errors[-1][1] != text:
            self.errors.append((time.time(), text))
