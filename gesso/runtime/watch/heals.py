"""The agent's view of heals: it starts them, and reads their state from their files only (docs/adr/0022, 0023).

No required state is held in memory only: the agent may be restarted during a heal, or a heal may be started from a
terminal, and all clients get the same answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gesso import proc, small_files
from gesso.errors import CheckError, GessoError
from gesso.runtime import locks
from gesso.runtime.heal import reports
from gesso.runtime.services.supervisord import unset_markers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gesso.runtime.layout import Layout

State = Literal["running", "done", "interrupted"]
REQUESTED = "asked"  # the agent's own line in a journal, before the heal's first: an issued ID is then known
_READ_SIZE = 256 << 10  # bytes of a journal read at a time
_HEAD_SIZE = 4 << 10  # bytes that hold its first two lines
_LOCK_GRACE = 2.0  # seconds a finished heal may still hold its lock
_SUMMARY = ("by", "dry_run", "begun", "ended", "ok", "code", "summary")
_NEVER_BEGAN = "the heal ended before it began; `gesso logs heal` on the instance shows its output"
_INTERRUPTED = "the heal was interrupted; finished repairs stay, and the next heal finds the rest"


@dataclass(frozen=True)
class Started:
    """The requested heal (`new`), or the one already running. `name` is empty if that has none yet."""

    name: str
    new: bool


class Healer:
    """The heals of an instance."""

    def __init__(self, layout: Layout, env: Mapping[str, str], proc_folder: Path = Path("/proc")) -> None:
        self._layout, self._env, self._proc = layout, env, proc_folder
        self._folder = layout.reports
        self._guard = threading.Lock()
        self._children: set[str] = set()  # started by this agent and still running

    def start(self, *, dry_run: bool, by: str) -> Started:
        """Start a heal that outlives the agent, unless one is running.

        Raises CheckError if it cannot be started.
        """
        with self._guard:
            if (running := self._running_heal()) is not None:
                return Started(running, new=False)
            name = reports.new_id(time.time())
            reports.Journal(self._folder, name).emit(REQUESTED, by=by, dry_run=dry_run)
            gesso = str(self._layout.gesso / "venv" / "bin" / "gesso")
            argv = [*unset_markers(self._env), gesso, "heal", "--id", name, "--by", by, *["--dry-run"] * dry_run]
            try:
                self._layout.logs.mkdir(parents=True, exist_ok=True)
                pid = proc.detach(argv, self._layout.logs / "heal.log")
            except (OSError, GessoError) as error:
                raise CheckError(f"a heal could not be started: {error}", "restart the instance") from None
            self._children.add(name)
            threading.Thread(target=self._reap, args=(pid, name), name="heal", daemon=True).start()
            return Started(name, new=True)

    def _running_heal(self) -> str | None:
        """Return the running heal; wait for one that has written its report but still holds the lock."""
        end = time.monotonic() + _LOCK_GRACE
        while (running := self.running()) == "" and time.monotonic() < end:
            time.sleep(0.02)
        return running

    def running(self) -> str | None:
        """Return the running heal's name: empty if it has no journal yet, None if no heal is running."""
        unfinished = [name for name in reports.names(self._folder) if reports.read(self._folder, name) is None]
        if unfinished and self._has_process(unfinished[0]):
            return unfinished[0]
        if not locks.is_held(self._layout.heal_lock):
            return None
        return next((name for name in unfinished if self._has_begun(name)), "")

    def state(self, name: str) -> State | None:
        """Return the state of a heal; None if no heal has that name."""
        if not reports.is_id(name):
            return None
        if reports.read(self._folder, name) is not None:
            return "done"
        if self._has_process(name):
            return "running"
        if not self._journal(name).exists():
            return None
        if self.running() == name:
            return "running"
        # It may have ended since the first check.
        return "done" if reports.read(self._folder, name) is not None else "interrupted"

    def details(self, name: str) -> dict[str, Any] | None:
        """Return a heal with its report, if it has one; None if no heal has that name."""
        state = self.state(name)
        if state is None:
            return None
        report = reports.read(self._folder, name) or {}
        found: dict[str, Any] = dict.fromkeys(_SUMMARY)
        for event in self._head(name):
            found |= {"by": event.get("by"), "dry_run": event.get("dry_run"), "begun": event["at"]}
        if state == "interrupted":
            found |= {"ok": False, "summary": _INTERRUPTED if self._has_begun(name) else _NEVER_BEGAN}
        return {**found, **report, "id": name, "state": state}

    def summary(self, name: str) -> dict[str, Any] | None:
        """Return a heal without its damages."""
        found = self.details(name)
        return found and {key: found[key] for key in ("id", "state", *_SUMMARY)}

    def latest(self) -> dict[str, Any] | None:
        """Return the running heal, else the last one."""
        name = self.running() or next(iter(reports.names(self._folder)), None)
        return None if name is None else self.details(name)

    def summaries(self) -> list[dict[str, Any]]:
        """Return summaries of all stored heals, latest first."""
        return [found for name in reports.names(self._folder) if (found := self.summary(name)) is not None]

    def events(self, name: str, offset: int, step: int = _READ_SIZE) -> list[tuple[int, dict[str, Any]]]:
        """Return events of a journal from a byte offset on, each with the offset to continue from.

        An invalid offset, such as one within a line, means the beginning. Bounded: call again for the rest.
        """
        try:
            with small_files.open_regular(self._journal(name)) as file:
                file.seek(max(0, offset - 1))
                if offset and file.read(1) != b"\n":
                    offset = 0
                    file.seek(0)
                data = file.read(step)
                if b"\n" not in data:
                    data += file.readline()
        except OSError:
            return []
        found = []
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            offset += len(line)
            with contextlib.suppress(ValueError, RecursionError):
                event = json.loads(line)
                if isinstance(event, dict):
                    found.append((offset, event))
        return found

    def _journal(self, name: str) -> Path:
        return self._folder / f"{name}.jsonl"

    def _head(self, name: str) -> list[dict[str, Any]]:
        """Return the first two events, the agent's and the heal's own: they have the requester and the options."""
        first = [event for _, event in self.events(name, 0, _HEAD_SIZE)[:2]]
        return [event for event in first if event.get("event") in {REQUESTED, "begun"} and "at" in event]

    def _has_begun(self, name: str) -> bool:
        return any(event["event"] == "begun" for event in self._head(name))

    def _has_process(self, name: str) -> bool:
        """Return whether a process was started for the heal: it may not hold the lock yet.

        A zombie has no arguments; nor has, for a moment, a process during exec, such as our child.
        """
        if name in self._children:
            return True
        argument = name.encode()
        for entry in self._proc.iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if argument in (entry / "cmdline").read_bytes().split(b"\0"):
                        return True
        return False

    def _reap(self, pid: int, name: str) -> None:
        """Wait for a child that ends before the agent, so that no zombie stays."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        self._children.discard(name)
