"""The models of a running instance: fetched by a process beside the agent, tried again for ever, and watched.

`gesso fetch --events` does the work: at a lower priority than ComfyUI's start, with its memory given back at its end,
and not in the way of the page and the gate, which the agent answers. It dies with the agent.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from gesso import proc
from gesso.errors import GessoError
from gesso.models import receipts
from gesso.models.events import Event
from gesso.models.folder import Folder
from gesso.models.progress import Board
from gesso.runtime.state.state import ModelFact, Stage, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gesso.manifest.schema import Model
    from gesso.runtime.layout import Layout

    Run = Callable[[Sequence[str], Callable[[str], None]], proc.Result]

LOOK_EVERY = 3.0  # seconds between two looks at files that were verified
_CLAIMED = 0.5  # seconds between two looks whether a heal is still at the models
_FIRST, _LONGEST = 5.0, 60.0  # seconds between two tries
_AGAIN = 300.0  # seconds, where all that lacks was left out for want of room
_STAGES: dict[str, Stage] = {
    "there": "verified", "done": "verified", "checking": "checking", "started": "fetching", "progress": "fetching",
    "switched": "fetching", "retrying": "fetching", "failed": "failed", "skipped": "left-out",
}  # fmt: skip


def folder_of(layout: Layout) -> Folder:
    """Give the models folder; what gesso keeps about it goes elsewhere where it cannot be written."""
    root = layout.models
    if root.is_dir() and not os.access(root, os.W_OK):
        return Folder.at(root, layout.state / "models")
    return Folder.at(root)


def pause(tries: int) -> float:
    """Give the seconds to wait after so many tries without a byte: doubling, and bounded."""
    return min(_LONGEST, _FIRST * 2.0 ** min(tries, 10))


def command(layout: Layout) -> list[str]:
    """Give the command that fetches: it ends when the agent does, and lets ComfyUI's start go first."""
    gesso = str(layout.gesso / "venv" / "bin" / "gesso")
    return ["setpriv", "--pdeathsig", "TERM", "nice", "-n", "19", gesso, "fetch", "--events"]


def trouble_of(said: str) -> Trouble:
    """Take apart what an error says of itself: `gesso: why`, and on the next line `next: what to do`."""
    why, _, step = said.partition("\n")
    return Trouble(why.removeprefix("gesso: ").strip(), step.strip().removeprefix("next: ").strip())


class Stock:
    """What is known of the models, and the loop that makes it better. Its facts may be asked from any thread."""

    def __init__(
        self, models: Sequence[Model], folder: Folder, words: Sequence[str], run: Run = proc.stream,
        clock: Callable[[], float] = time.monotonic, claimed: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._claimed = claimed
        self._models, self._folder, self._words, self._run, self._clock = models, folder, words, run, clock
        self._guard = threading.Lock()
        self._board = Board()
        self._troubles: dict[str, Trouble] = {}
        self._fault: Trouble | None = None
        self._looked = False
        self._seen: dict[str, dict[str, int] | None] = {}
        self._moved = False
        self._doubted: set[str] = set()
        self.errors: deque[tuple[float, str]] = deque(maxlen=8)
        self.tries = 0

    def facts(self) -> tuple[bool, tuple[ModelFact, ...], Trouble | None]:
        """Give whether anything is known, each model, and what kept all of them from being fetched."""
        with self._guard:
            return self._looked, tuple(self._fact(model) for model in self._models), self._fault

    def _fact(self, model: Model) -> ModelFact:
        row = self._board.rows.get(model.name)
        if row is None:
            return ModelFact(model.name, model.tier, "waiting", model.size)
        return ModelFact(
            model.name, model.tier, _STAGES.get(row.kind, "waiting"), row.size or model.size, row.done,
            row.rate if row.active else 0.0, row.left, row.source, row.message, self._troubles.get(model.name),
        )  # fmt: skip

    def run(self, stop: threading.Event) -> None:
        """Fetch what lacks, then watch; for ever. While a heal has claimed the models it does that work."""
        while not stop.is_set():
            if self._claimed():
                stop.wait(_CLAIMED)
                continue
            try:
                self.fetch_once()
            except Exception as error:  # noqa: BLE001 - what puts things right outlives what goes wrong in one round
                with self._guard:
                    self._note(f"gesso itself: {type(error).__name__}: {error}")
            again = self._clock() + self._patience()
            while not stop.wait(LOOK_EVERY) and self._clock() < again and not self._changed():
                pass

    def _patience(self) -> float:
        """Give the seconds until the next fetch, unless a file changes before."""
        _, models, _ = self.facts()
        stages = {model.stage for model in models}
        self.tries = 0 if self._moved or stages <= {"verified"} else self.tries + 1
        if stages <= {"verified"}:
            return math.inf
        return _AGAIN if stages <= {"verified", "left-out"} else pause(self.tries)

    def fetch_once(self) -> None:
        """Run one fetch to its end, and take in what it says."""
        said: deque[str] = deque(maxlen=40)
        self._moved = False

        def on_line(line: str) -> None:
            event = event_of(line)
            if event is None:
                said.append(line)
            else:
                self.feed(event)

        try:
            ended = self._run(self._words, on_line)
            code = ended.code
        except GessoError as error:
            said.append(str(error))
            code = error.exit_code
        with self._guard:
            self._looked = True
            self._fault = self._fault_of(code, list(said))
            if self._fault is not None:
                self._note(self._fault.why)
            for model in self._models:
                if not self._verified(model.name):
                    self._seen[model.name] = self._look(model)

    def _fault_of(self, code: int, said: list[str]) -> Trouble | None:
        """Tell what kept the fetch from being one: where single models failed, those have said it themselves."""
        rows = self._board.rows.values()
        if code == 0 or any(row.kind == "failed" for row in rows):
            return None
        begin = next((n for n, line in enumerate(said) if line.startswith("gesso: ")), None)
        if begin is not None:
            return trouble_of("\n".join(said[begin : begin + 2]))
        last = f": {said[-1]}" if said else ""
        return Trouble(f"fetching ended with code {code}{last}", "nothing yet: it is tried again by itself")

    def feed(self, event: Event) -> None:
        """Take in what happened to one model. What failed stays failed until bytes come again."""
        with self._guard:
            before = self._board.rows.get(event.name)
            had = before.done if before is not None else 0
            self._looked = True
            row = self._board.feed(event, self._clock())
            if event.kind == "failed":
                self._troubles[event.name] = trouble_of(event.message)
                self._note(f"{event.name}: {self._troubles[event.name].why}")
            elif event.kind == "quarantined":
                self._note(f"{event.name}: {event.message}")
            elif event.kind in {"done", "there"} or (event.kind == "progress" and row.done > had):
                self._moved |= event.kind != "there"
                if event.kind != "progress":  # now, not when all are done: what happens to it meanwhile must be noticed
                    self._seen[event.name] = self._look_at(event.name)
                self._troubles.pop(event.name, None)

    def doubt(self, name: str) -> None:
        """Have a verified file checked again, though it looks as it did: its bytes were found wrong."""
        with self._guard:
            self._doubted.add(name)

    def _note(self, text: str) -> None:
        if not self.errors or self.errors[-1][1] != text:
            self.errors.append((time.time(), text))

    def _verified(self, name: str) -> bool:
        row = self._board.rows.get(name)
        return row is not None and _STAGES.get(row.kind) == "verified"

    def _look(self, model: Model) -> dict[str, int] | None:
        return self._look_at(model.name)

    def _look_at(self, name: str) -> dict[str, int] | None:
        try:
            return receipts.looks(self._folder.path(name).stat())
        except OSError:
            return None

    def _changed(self) -> bool:
        """Tell whether a verified file is not what it was, and say so of each: it must be checked again."""
        with self._guard:
            doubted, self._doubted = self._doubted, set()
        changed = [
            model
            for model in self._models
            if model.name in doubted
            or (now := self._look(model)) != self._seen.get(model.name)
            or (now is None and self._verified(model.name))
        ]
        for model in changed:
            gone = self._look(model) is None
            self.feed(Event(kind="planned", name=model.name, tier=model.tier, size=model.size,
                            message="it is gone" if gone else "it was changed"))  # fmt: skip
            with self._guard:
                self._note(f"{model.name}: {'is gone' if gone else 'was changed on disk'}; being put right")
        return bool(changed)


def event_of(line: str) -> Event | None:
    """Read one line of `gesso fetch --events`; None for what is none."""
    if not line.startswith("{"):
        return None
    try:
        found: Any = json.loads(line)
        return Event(**found)
    except (ValueError, TypeError):
        return None
