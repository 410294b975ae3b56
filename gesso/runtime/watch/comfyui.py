"""Watch ComfyUI: whether it responds and has what Krita needs. Publish the workflows to Krita at each of its starts.

It is asked through the public port, as Krita does: one answer proves gate, agent and ComfyUI. Programs that the
supervisor gave up are restarted from here, at a bounded rate; so is the supervisor itself if it was killed: in Vast's
ssh and jupyter modes it is not the container's first process.

Once everything is up, the end of a process wakes the watch; it polls rarely.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gesso import small_files
from gesso.errors import CheckError
from gesso.runtime import locks
from gesso.runtime.layout import COMFY_PORT
from gesso.runtime.services import comfyui, krita, ports
from gesso.runtime.state.state import Trouble
from gesso.runtime.watch.gate import GATE, GateWatch
from gesso.runtime.watch.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gesso.runtime.layout import Layout, Record
    from gesso.runtime.services.supervisord import Program, Supervisor

COMFYUI = "comfyui"
POLL_INTERVAL = 0.5  # seconds, while something is not up
SETTLED_INTERVAL = 10.0  # seconds, once everything is up
_PROGRAMS_INTERVAL = 30.0  # seconds, once everything is up: the end of a process wakes the watch anyway
_STATS_INTERVAL = 60.0  # seconds between two queries for memory and versions, which only people read
_WAKE_PAUSE = 0.1  # seconds for the supervisor to notice an end, too
_QUEUE = "/prompt"  # the smallest answer of ComfyUI
_PUBLISH_RETRY = 10.0  # seconds
_MISSED_SECONDS = 20.0  # without a response until ComfyUI counts as down: it may be busy
_FIRST_BACKOFF, _MAX_BACKOFF = 5.0, 60.0  # seconds between two starts of a program that was given up
_PORT_GRACE = 3.0  # seconds
_POLLS_UNTIL_REVIVE = 6  # polls in a row without a supervisor until it is restarted
_END_HOLDER = "end that program, or run this container in a network namespace of its own"


@dataclass
class ComfyuiState:
    """The observed state of ComfyUI. One thread writes it; others read single fields."""

    program: Program | None = None
    run_id: tuple[int, int] = (0, 0)
    starts: int = 0
    idle_starts: int = 0
    up: bool = False
    silent_since: float | None = None
    socket: int = 0
    port_trouble: Trouble | None = None
    queue: int = 0
    last_stats: float = -1e9
    stats: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] | None = None
    published: bool = False
    publish_trouble: Trouble | None = None
    last_publish: float = -1e9


class ComfyuiWatch:
    """The loop that watches ComfyUI."""

    def __init__(
        self, layout: Layout, record: Record, supervisor: Supervisor, revive: Callable[[], None] = lambda: None,
        *, env: Mapping[str, str] = MappingProxyType({}), port: int = COMFY_PORT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._layout, self._record, self._supervisor, self._revive = layout, record, supervisor, revive
        self._port, self._clock = port, clock
        self._polls_without_supervisor = 0
        self._given_up: dict[str, tuple[float, float]] = {}
        self._programs: dict[str, Program] = {}
        self._programs_at = -1e9
        self._rounds = threading.Condition()
        self._round = 0
        self._strange_since: float | None = None
        self._own_sockets: set[tuple[int, int]] = set()
        self.last_poll = clock()
        self.wakeup = Wakeup()
        self.seen = ComfyuiState()
        self.errors: deque[tuple[float, str]] = deque(maxlen=8)
        self.gate = GateWatch(layout, env, supervisor, self._note, clock)

    def run(self, stop: threading.Event) -> None:
        """Poll until `stop` is set."""
        while not stop.is_set():
            try:
                self.poll()
            except Exception as error:  # noqa: BLE001 - the loop must survive an error in one round
                self._note(f"gesso: internal error: {type(error).__name__}: {error}")
            with self._rounds:
                self._round += 1
                self._rounds.notify_all()
            pids = [os.getppid(), *(program.pid for program in self._programs.values() if program.pid)]
            if self.wakeup.wait(SETTLED_INTERVAL if self.settled else POLL_INTERVAL, pids if self.settled else ()):
                self._programs_at = -1e9
                stop.wait(_WAKE_PAUSE)

    def refresh(self, timeout: float = 15.0) -> None:
        """Wait for one whole round that begins now; at most `timeout` seconds."""
        with self._rounds:
            for _ in range(2):  # the round that is under way may have begun before
                ended = self._round
                self.wakeup.poke()
                if not self._wait_for_round(ended, timeout):
                    return

    def _wait_for_round(self, ended: int, timeout: float) -> bool:
        return self._rounds.wait_for(lambda: self._round > ended, timeout)

    def age(self) -> float:
        """Return the seconds since the last round began."""
        return self._clock() - self.last_poll

    @property
    def settled(self) -> bool:
        """Whether everything is up and published: the end of a process is then the next thing to happen."""
        seen = self.seen
        running = all(program.state == "RUNNING" for program in self._programs.values())
        return bool(self._programs) and running and self.gate.up and seen.up and seen.published

    def refused(self) -> Trouble | None:
        """Return why ComfyUI was not started, if the guard refused its start."""
        try:
            found = small_files.read_json(comfyui.fault_file(self._layout))
            return Trouble(str(found["why"]), str(found["next"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def notes(self) -> tuple[str, ...]:
        """Return the differences from the lock that did not prevent the last start."""
        try:
            found = small_files.read_json(comfyui.notes_file(self._layout))
            return tuple(str(text) for text in found)
        except (OSError, ValueError, TypeError):
            return ()

    def poll(self) -> None:
        """Check everything once, and act on it."""
        now = self.last_poll = self._clock()
        if not self.settled or now - self._programs_at >= _PROGRAMS_INTERVAL:
            self._ask_supervisor()
        self._query()
        if self.gate.trouble is not None:
            self.gate.repair(self._programs.get(GATE))
        if self.seen.up and self.seen.missing == () and not self.seen.published:
            self._publish()

    def _ask_supervisor(self) -> None:
        try:
            self._programs = self._supervisor.programs()
        except CheckError:
            self._programs = {}
            self._polls_without_supervisor += 1
            if self._polls_without_supervisor == _POLLS_UNTIL_REVIVE:
                self._revive()
            return
        self._programs_at = self._clock()
        self._polls_without_supervisor = 0
        self._record_program(self._programs.get(COMFYUI))
        self.gate.record(self._programs.get(GATE))
        self._restart_failed(self._programs.values())

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
        self._forget_run()

    def _forget_run(self) -> None:
        """Forget what only one run of ComfyUI has."""
        seen = self.seen
        seen.up, seen.missing, seen.published, seen.publish_trouble = False, None, False, None
        seen.last_stats = seen.last_publish = -1e9
        seen.silent_since, seen.socket, seen.queue = None, 0, 0

    def _restart_failed(self, programs: Iterable[Program]) -> None:
        now = self._clock()
        for program in programs:
            if program.state == "RUNNING":
                self._given_up.pop(program.name, None)
            elif program.state == "FATAL":
                next_start, wait = self._given_up.get(program.name, (now + _FIRST_BACKOFF, _FIRST_BACKOFF))
                if now >= next_start:
                    self._note(f"{program.name} failed to stay up; restarting it")
                    if program.name == GATE:
                        self.gate.repair(program)
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
        """Ask ComfyUI through the public port, and by its own port where that does not answer."""
        seen, now = self.seen, self._clock()
        self._check_socket()
        answer = self.gate.ask(_QUEUE)
        try:
            if seen.port_trouble is not None:
                raise CheckError(seen.port_trouble.why)
            queue = answer.body if answer is not None and answer.status == http.client.OK else None
            if queue is None:
                queue = comfyui.get_json(_QUEUE, timeout=5.0, port=self._port)
            seen.queue = comfyui.queue_length(queue)
            if seen.missing is None:
                seen.missing = comfyui.missing_classes(self._record.classes, port=self._port)
                if seen.missing:
                    self._note(f"ComfyUI lacks {', '.join(seen.missing)}")
            if now - seen.last_stats >= _STATS_INTERVAL:
                stats = comfyui.get_json("/system_stats", timeout=5.0, port=self._port)
                seen.last_stats, seen.stats = now, stats if isinstance(stats, dict) else {}
        except CheckError:
            seen.silent_since = now if seen.silent_since is None else seen.silent_since
            if now - seen.silent_since >= _MISSED_SECONDS or seen.port_trouble is not None:
                seen.up = False
            return
        seen.silent_since, seen.idle_starts, seen.up = None, 0, True

    def _check_socket(self) -> None:
        """Check that ComfyUI's port is its own and on loopback; a new socket means a new run, also in one process."""
        seen, now = self.seen, self._clock()
        found = ports.listeners(self._port)
        trouble = None if seen.program is None else self._port_trouble(seen.program, found)
        self._strange_since = None if trouble is None else now if self._strange_since is None else self._strange_since
        # A socket of the run before may last for a moment.
        is_new = self._strange_since is not None and now - self._strange_since < _PORT_GRACE
        seen.port_trouble = None if is_new else trouble
        socket = found[0].inode if found else 0
        if seen.socket and socket and socket != seen.socket and seen.missing is not None:
            self._note("ComfyUI restarted itself")
            self._forget_run()
        seen.socket = socket or seen.socket

    def _port_trouble(self, program: Program, found: Sequence[ports.Listener]) -> Trouble | None:
        sockets = {(program.pid, listener.inode) for listener in found}
        if self._own_sockets >= sockets:
            held = True
        else:
            held = bool(program.pid) and any(ports.is_held_by(program.pid, listener) for listener in found)
            self._own_sockets = sockets if held else set()
        if found and not held:
            return Trouble(f"port {self._port} is held by {ports.holder(self._port)}", _END_HOLDER)
        exposed = next((listener for listener in found if not listener.is_loopback), None)
        if exposed is None:
            return None
        why = (
            f"ComfyUI listens on {exposed.address}, so that port {self._port} is open to the network without the token"
        )
        trouble = Trouble(f"{why}; it was stopped", "`gesso logs comfyui` shows what it was started with")
        comfyui.refuse(self._layout, CheckError(trouble.why, trouble.next_step))
        with contextlib.suppress(CheckError):
            self._supervisor.stop(COMFYUI)
        return trouble

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
