"""Fetch the models of a running instance in a process beside the agent, retry forever, and watch the files.

`gesso fetch --events` does the work: at a lower priority than ComfyUI's start, its memory freed at its end, and without
slowing down the page and the gate, which the agent serves. It dies with the agent.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from gesso import proc
from gesso.errors import GessoError
from gesso.models import receipts
from gesso.models.events import Event
from gesso.models.progress import Board
from gesso.runtime.state.state import ModelFact, Stage, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gesso.models.folder import Folder
    from gesso.runtime.layout import Layout
    from gesso.runtime.watch.watched import WatchedModel

    Run = Callable[[Sequence[str], Callable[[str], None]], proc.Result]

CHECK_INTERVAL = 3.0  # seconds between two checks of verified files
_CLAIM_POLL = 0.5  # seconds between two checks whether a heal has the models
_FIRST_BACKOFF, _MAX_BACKOFF = 5.0, 60.0  # seconds between two attempts
_LEFT_OUT_RETRY = 300.0  # seconds, if all missing models were left out because the disk is full
_STAGES: dict[str, Stage] = {
    "there": "verified", "done": "verified", "checking": "checking", "started": "fetching", "progress": "fetching",
    "switched": "fetching", "retrying": "fetching", "failed": "failed", "skipped": "left-out",
}  # fmt: skip


def backoff(tries: int) -> float:
    """Return the seconds to wait after that many attempts without progress: exponential, bounded."""
    return min(_MAX_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(tries, 10))


def command(layout: Layout) -> list[str]:
    """Return the fetch command: it ends with the agent, at a lower priority than ComfyUI's start."""
    gesso = str(layout.gesso / "venv" / "bin" / "gesso")
    return ["setpriv", "--pdeathsig", "TERM", "nice", "-n", "19", gesso, "fetch", "--events"]


def parse_trouble(message: str) -> Trouble:
    """Parse an error message: `gesso: why`, and on the next line `next: what to do`."""
    why, _, step = message.partition("\n")
    return Trouble(why.removeprefix("gesso: ").strip(), step.strip().removeprefix("next: ").strip())


def trouble_of(event: Event) -> Trouble:
    """Return why a model failed, without its name: whoever shows it has the name."""
    found = parse_trouble(event.message)
    return Trouble(found.why.removeprefix(f"{event.name}: "), found.next_step, event.fault)


class ModelSync:
    """The state of the models, and the loop that fetches them. `facts` may be called from any thread."""

    def __init__(
        self, models: Sequence[WatchedModel], folder: Folder, argv: Sequence[str], run: Run = proc.stream,
        clock: Callable[[], float] = time.monotonic, claimed: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._claimed = claimed
        self._models, self._folder, self._argv, self._run, self._clock = models, folder, argv, run, clock
        self._guard = threading.Lock()
        self._board = Board()
        self._troubles: dict[str, Trouble] = {}
        self._fault: Trouble | None = None
        self._models_known = False
        self._seen: dict[str, dict[str, int] | None] = {}
        self._progressed = False
        self._to_recheck: set[str] = set()
        self.errors: deque[tuple[float, str]] = deque(maxlen=8)
        self.tries = 0

    def facts(self) -> tuple[bool, tuple[ModelFact, ...], Trouble | None]:
        """Return whether anything is known, each model, and what prevented the whole fetch."""
        with self._guard:
            return self._models_known, tuple(self._fact(model) for model in self._models), self._fault

    def _fact(self, model: WatchedModel) -> ModelFact:
        row = self._board.rows.get(model.name)
        if row is None:
            return ModelFact(model.name, model.tier, "waiting", model.size, license=model.license)
        return ModelFact(
            model.name, model.tier, _STAGES.get(row.kind, "waiting"), row.size or model.size, row.done,
            row.rate if row.active else 0.0, row.left, row.source, row.message, self._troubles.get(model.name),
            model.license,
        )  # fmt: skip

    def run(self, stop: threading.Event) -> None:
        """Fetch missing models, then watch, until `stop` is set. While a heal has claimed the models, do nothing."""
        while not stop.is_set():
            if self._claimed():
                stop.wait(_CLAIM_POLL)
                continue
            try:
                self.fetch_once()
            except Exception as error:  # noqa: BLE001 - the loop must survive an error in one round
                with self._guard:
                    self._note(f"gesso: internal error: {type(error).__name__}: {error}")
            retry_at = self._clock() + self._delay()
            while not stop.wait(CHECK_INTERVAL) and self._clock() < retry_at and not self._changed():
                pass

    def _delay(self) -> float:
        """Return the seconds until the next fetch, unless a file changes before."""
        _, models, _ = self.facts()
        stages = {model.stage for model in models}
        self.tries = 0 if self._progressed or stages <= {"verified"} else self.tries + 1
        if stages <= {"verified"}:
            return math.inf
        return _LEFT_OUT_RETRY if stages <= {"verified", "left-out"} else backoff(self.tries)

    def fetch_once(self) -> None:
        """Run one fetch to its end, and process its events."""
        output: deque[str] = deque(maxlen=40)
        self._progressed = False

        def on_line(line: str) -> None:
            event = parse_event(line)
            if event is None:
                output.append(line)
            else:
                self.feed(event)

        try:
            ended = self._run(self._argv, on_line)
            code = ended.code
        except GessoError as error:
            output.append(str(error))
            code = error.exit_code
        with self._guard:
            self._models_known = True
            self._fault = self._fault_of(code, list(output))
            if self._fault is not None:
                self._note(self._fault.why)
            for model in self._models:
                if not self._verified(model.name):
                    self._seen[model.name] = self._stat(model)

    def _fault_of(self, code: int, output: list[str]) -> Trouble | None:
        """Return what prevented the whole fetch; failures of single models are reported per model."""
        rows = self._board.rows.values()
        if code == 0 or any(row.kind == "failed" for row in rows):
            return None
        start = next((n for n, line in enumerate(output) if line.startswith("gesso: ")), None)
        if start is not None:
            return parse_trouble("\n".join(output[start : start + 2]))
        last = f": {output[-1]}" if output else ""
        return Trouble(f"fetching ended with code {code}{last}", "nothing yet: it is retried automatically")

    def feed(self, event: Event) -> None:
        """Process an event of one model. A failed model stays failed until bytes arrive again."""
        with self._guard:
            before = self._board.rows.get(event.name)
            had = before.done if before is not None else 0
            self._models_known = True
            row = self._board.feed(event, self._clock())
            if event.kind == "failed":
                self._troubles[event.name] = trouble_of(event)
                self._note(f"{event.name}: {self._troubles[event.name].why}")
            elif event.kind == "quarantined":
                self._note(f"{event.name}: {event.message}")
            elif event.kind in {"done", "there"} or (event.kind == "progress" and row.done > had):
                self._progressed |= event.kind != "there"
                if event.kind != "progress":  # now, not when all are done: a change in between must be noticed
                    self._seen[event.name] = self._stat_by_name(event.name)
                self._troubles.pop(event.name, None)

    def recheck(self, name: str) -> None:
        """Check a verified file again despite unchanged size and times: its bytes are wrong."""
        with self._guard:
            self._to_recheck.add(name)

    def _note(self, text: str) -> None:
        if not self.errors or self.errors[-1][1] != text:
            self.errors.append((time.time(), text))

    def _verified(self, name: str) -> bool:
        row = self._board.rows.get(name)
        return row is not None and _STAGES.get(row.kind) == "verified"

    def _stat(self, model: WatchedModel) -> dict[str, int] | None:
        return self._stat_by_name(model.name)

    def _stat_by_name(self, name: str) -> dict[str, int] | None:
        try:
            return receipts.file_state(self._folder.path(name).stat())
        except OSError:
            return None

    def _changed(self) -> bool:
        """Return whether verified files have changed, and note each: they must be checked again."""
        with self._guard:
            to_recheck, self._to_recheck = self._to_recheck, set()
        changed = [
            model
            for model in self._models
            if model.name in to_recheck
            or (now := self._stat(model)) != self._seen.get(model.name)
            or (now is None and self._verified(model.name))
        ]
        for model in changed:
            gone = self._stat(model) is None
            self.feed(Event(kind="planned", name=model.name, tier=model.tier, size=model.size,
                            message="it is gone" if gone else "it was changed"))  # fmt: skip
            with self._guard:
                self._note(f"{model.name}: {'is gone' if gone else 'was changed on disk'}; being repaired")
        return bool(changed)


def parse_event(line: str) -> Event | None:
    """Parse one line of `gesso fetch --events`; None if it is not an event."""
    if not line.startswith("{"):
        return None
    try:
        found: Any = json.loads(line)
        return Event(**found)
    except (ValueError, TypeError):
        return None
