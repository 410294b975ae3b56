"""Heals as the agent sees them: it starts one, and knows all of them by their files alone (docs/adr/0022, 0023).

Nothing that is needed is kept in memory alone: the agent may be started again in the middle of a heal, or a heal be
started from a terminal, and everybody is told the same.
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

from gesso import proc
from gesso.errors import CheckError, GessoError
from gesso.runtime import locks
from gesso.runtime.heal import reports
from gesso.runtime.services.supervisord import unmarked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gesso.runtime.layout import Layout

State = Literal["running", "done", "interrupted"]
ASKED = "asked"  # the agent's own line in a journal: before the heal's first, so that an id that was given is known
_STEP = 256 << 10  # bytes of a journal that are read at a time
_HEAD = 4 << 10  # bytes in which its first two lines are
_ENDING = 2.0  # seconds
_SUMMARY = ("by", "dry_run", "begun", "ended", "ok", "code", "summary")
_SILENT = "the heal ended before it had begun; `gesso logs heal` on the instance has what it said"
_CUT = "the heal was interrupted; what it had repaired stays repaired, and the next one finds what is left"


@dataclass(frozen=True)
class Started:
    """A heal that was asked for: `new`, or the one that is at work already. `name` is empty where that has none yet."""

    name: str
    new: bool


class Healer:
    """The heals of an instance."""

    def __init__(self, layout: Layout, env: Mapping[str, str], proc_folder: Path = Path("/proc")) -> None:
        self._layout, self._env, self._proc = layout, env, proc_folder
        self._folder = layout.reports
        self._guard = threading.Lock()
        self._children: set[str] = set()  # of this agent, and not ended yet

    def start(self, *, dry_run: bool, by: str) -> Started:
        """Start a heal that outlives the agent, unless one is at work.

        Raises CheckError where it cannot be started.
        """
        with self._guard:
            if (running := self._in_the_way()) is not None:
                return Started(running, new=False)
            name = reports.new_id(time.time())
            reports.Journal(self._folder, name).tell(ASKED, by=by, dry_run=dry_run)
            gesso = str(self._layout.gesso / "venv" / "bin" / "gesso")
            words = [*unmarked(self._env), gesso, "heal", "--id", name, "--by", by, *["--dry-run"] * dry_run]
            try:
                self._layout.logs.mkdir(parents=True, exist_ok=True)
                pid = proc.detach(words, self._layout.logs / "heal.log")
            except (OSError, GessoError) as error:
                raise CheckError(f"a heal could not be started: {error}", "restart the instance") from None
            self._children.add(name)
            threading.Thread(target=self._reap, args=(pid, name), name="heal", daemon=True).start()
            return Started(name, new=True)

    def _in_the_way(self) -> str | None:
        """Name the heal that is at work; one that has just written its report keeps the lock for a moment longer."""
        end = time.monotonic() + _ENDING
        while (running := self.running()) == "" and time.monotonic() < end:
            time.sleep(0.02)
        return running

    def running(self) -> str | None:
        """Name the heal that is at work: empty where it has no journal yet, None where there is none."""
        unfinished = [name for name in reports.names(self._folder) if reports.read(self._folder, name) is None]
        if unfinished and self._alive(unfinished[0]):
            return unfinished[0]
        if not locks.taken(self._layout.heal_lock):
            return None
        return next((name for name in unfinished if self._has_begun(name)), "")

    def state(self, name: str) -> State | None:
        """Tell how far a heal is; None where there is none of that name."""
        if not reports.is_id(name):
            return None
        if reports.read(self._folder, name) is not None:
            return "done"
        if self._alive(name):
            return "running"
        if not self._journal(name).exists():
            return None
        if self.running() == name:
            return "running"
        # It may have ended since we first looked.
        return "done" if reports.read(self._folder, name) is not None else "interrupted"

    def told(self, name: str) -> dict[str, Any] | None:
        """Give a heal with its report, where it has one; None where there is none of that name."""
        state = self.state(name)
        if state is None:
            return None
        report = reports.read(self._folder, name) or {}
        found: dict[str, Any] = dict.fromkeys(_SUMMARY)
        for event in self._first(name):
            found |= {"by": event.get("by"), "dry_run": event.get("dry_run"), "begun": event["at"]}
        if state == "interrupted":
            found |= {"ok": False, "summary": _CUT if self._has_begun(name) else _SILENT}
        return {**found, **report, "id": name, "state": state}

    def summary(self, name: str) -> dict[str, Any] | None:
        """Give a heal in short."""
        found = self.told(name)
        return found and {key: found[key] for key in ("id", "state", *_SUMMARY)}

    def latest(self) -> dict[str, Any] | None:
        """Give the running heal, else the last one."""
        name = self.running() or next(iter(reports.names(self._folder)), None)
        return None if name is None else self.told(name)

    def listed(self) -> list[dict[str, Any]]:
        """Give all that are kept in short, the latest first."""
        return [found for name in reports.names(self._folder) if (found := self.summary(name)) is not None]

    def lines(self, name: str, offset: int, step: int = _STEP) -> list[tuple[int, dict[str, Any]]]:
        """Give events of a journal from a byte offset on, each with the offset to go on from after it.

        An offset that is none, such as one in the middle of a line, is the beginning. Bounded: ask again for the rest.
        """
        try:
            with self._journal(name).open("rb") as file:
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
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    found.append((offset, event))
        return found

    def _journal(self, name: str) -> Path:
        return self._folder / f"{name}.jsonl"

    def _first(self, name: str) -> list[dict[str, Any]]:
        """Give the lines that say who wanted what, ours and the heal's own."""
        first = [event for _, event in self.lines(name, 0, _HEAD)[:2]]
        return [event for event in first if event.get("event") in {ASKED, "begun"} and "at" in event]

    def _has_begun(self, name: str) -> bool:
        return any(event["event"] == "begun" for event in self._first(name))

    def _alive(self, name: str) -> bool:
        """Tell whether a process was started for it: such a one may not have the lock yet.

        A zombie has no words; nor has, for a moment, a process that just becomes another program, such as our child.
        """
        if name in self._children:
            return True
        word = name.encode()
        for entry in self._proc.iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if word in (entry / "cmdline").read_bytes().split(b"\0"):
                        return True
        return False

    def _reap(self, pid: int, name: str) -> None:
        """Wait for a heal that ends before the agent does: nobody else would."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        self._children.discard(name)
