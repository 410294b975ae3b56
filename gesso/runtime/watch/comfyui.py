"""ComfyUI watched: does it answer, has it what Krita needs? And the workflows, handed to Krita at each of its starts.

What the supervisor gave up is started again from here, at a bounded rate; and the supervisor itself where it was
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
STEP = 0.5  # seconds between two looks
_ASK_EVERY = 5.0  # seconds, once ComfyUI is up: its process is looked at in every step
_PUBLISH_AGAIN = 10.0
_DEAF = 3  # answers that may stay out while it works, until it is called down
_FIRST, _LONGEST = 5.0, 60.0  # seconds between two starts of what was given up
_GONE = 6  # looks in a row without a supervisor until it is started anew


@dataclass
class Seen:
    """What was seen of ComfyUI. One thread writes it; others read single fields."""

    program: Program | None = None
    life: tuple[int, int] = (0, 0)
    starts: int = 0
    idle_starts: int = 0
    up: bool = False
    deaf: int = 0
    asked: float = -1e9
    stats: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] | None = None
    published: bool = False
    publish_trouble: Trouble | None = None
    tried: float = -1e9


class Watch:
    """The loop."""

    def __init__(
        self, layout: Layout, record: Record, supervisor: Supervisor, revive: Callable[[], None] = lambda: None,
        *, port: int = COMFY_PORT, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._layout, self._record, self._supervisor, self._revive = layout, record, supervisor, revive
        self._port, self._clock = port, clock
        self._gone = 0
        self._given_up: dict[str, tuple[float, float]] = {}
        self.seen = Seen()
        self.errors: deque[tuple[float, str]] = deque(maxlen=8)

    def run(self, stop: threading.Event) -> None:
        """Look, until told to stop."""
        while True:
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - what puts things right outlives what goes wrong in one round
                self._note(f"gesso itself: {type(error).__name__}: {error}")
            if stop.wait(STEP):
                return

    def refused(self) -> Trouble | None:
        """Give why ComfyUI was not started, where the guard before its start said no."""
        try:
            found = json.loads(comfyui.fault_file(self._layout).read_bytes())
            return Trouble(str(found["why"]), str(found["next"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def notes(self) -> tuple[str, ...]:
        """Give what is not as locked and stands in nobody's way, as the last start found it."""
        try:
            found = json.loads(comfyui.notes_file(self._layout).read_bytes())
            return tuple(str(text) for text in found)
        except (OSError, ValueError, TypeError):
            return ()

    def look(self) -> None:
        """Take one look, and do what it calls for."""
        try:
            programs = self._supervisor.programs()
        except CheckError:
            self._gone += 1
            if self._gone == _GONE:
                self._revive()
        else:
            self._gone = 0
            self._take_in(programs.get(COMFYUI))
            self._start_again(programs.values())
        self._ask()
        if self.seen.up and self.seen.missing == () and not self.seen.published:
            self._publish()

    def _take_in(self, program: Program | None) -> None:
        seen = self.seen
        seen.program = program
        if program is None or program.life == seen.life:
            return
        if program.pid:
            if seen.starts:
                before = "" if seen.up else "ended before it answered; it "
                self._note(f"ComfyUI {before}was started again")
            seen.starts += 1
            seen.idle_starts += 1
            seen.life = program.life
        seen.up, seen.missing, seen.published, seen.publish_trouble = False, None, False, None
        seen.asked = seen.tried = -1e9

    def _start_again(self, programs: Iterable[Program]) -> None:
        now = self._clock()
        for program in programs:
            if program.state == "RUNNING":
                self._given_up.pop(program.name, None)
            elif program.state == "FATAL":
                due, wait = self._given_up.get(program.name, (now + _FIRST, _FIRST))
                if now >= due:
                    self._note(f"{program.name} was given up; starting it again")
                    with contextlib.suppress(CheckError):
                        self._supervisor.start(program.name)
                    wait = min(_LONGEST, 2 * wait)
                    due = now + wait
                self._given_up[program.name] = (due, wait)
            elif program.state == "STOPPED" and program.name == COMFYUI and self._owed():
                with contextlib.suppress(CheckError):
                    self._supervisor.start(program.name)

    def _owed(self) -> bool:
        """Tell whether a heal that kept ComfyUI still was killed before it started it again."""
        return self._layout.owed.exists() and not locks.taken(self._layout.heal_lock)

    def _ask(self) -> None:
        seen, now = self.seen, self._clock()
        if seen.up and now - seen.asked < _ASK_EVERY:
            return
        seen.asked = now
        try:
            stats = comfyui.ask("/system_stats", timeout=5.0, port=self._port)
            if seen.missing is None:
                seen.missing = comfyui.missing(self._record.classes, port=self._port)
                if seen.missing:
                    self._note(f"ComfyUI lacks {', '.join(seen.missing)}")
        except CheckError:
            seen.deaf += 1
            if seen.deaf >= _DEAF:
                seen.up = False
            return
        seen.stats = stats if isinstance(stats, dict) else {}
        seen.deaf, seen.idle_starts, seen.up = 0, 0, True

    def _publish(self) -> None:
        seen, now = self.seen, self._clock()
        if now - seen.tried < _PUBLISH_AGAIN:
            return
        seen.tried = now
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
