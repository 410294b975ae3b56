"""Programs that run side by side, each told in one piece, and how long each took."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gesso import proc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True)
class Part:
    """One program of a run: what it is called, its command, and what is added to its environment."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """How a part ended; `seconds` of the clock, which others may have shared the machine in."""

    name: str
    ok: bool
    seconds: float


class _Turns:
    """Lets one part at a time speak, in order: the others' lines are kept until it is their turn."""

    def __init__(self, count: int, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._kept: list[deque[str]] = [deque() for _ in range(count)]
        self._ended = [False] * count
        self._turn = 0
        self._guard = threading.Lock()

    def say(self, number: int, line: str) -> None:
        with self._guard:
            self._kept[number].append(line)
            self._on()

    def end(self, number: int) -> None:
        with self._guard:
            self._ended[number] = True
            self._on()

    def _on(self) -> None:
        while self._turn < len(self._kept):
            kept = self._kept[self._turn]
            while kept:
                self._tell(kept.popleft())
            if not self._ended[self._turn]:
                return
            self._turn += 1


class _Enders:
    """What ends the programs that run; after `all` whatever is started is ended at once."""

    def __init__(self) -> None:
        self._enders: list[Callable[[], None]] = []
        self._over = False
        self._guard = threading.Lock()

    def add(self, end: Callable[[], None]) -> None:
        with self._guard:
            self._enders.append(end)
            over = self._over
        if over:
            end()

    def all(self) -> None:
        with self._guard:
            self._over = True
            enders = list(self._enders)
        threads = [threading.Thread(target=end) for end in enders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def run(parts: Sequence[Part], tell: Callable[[str], None]) -> list[Done]:
    """Run all parts at once and hand every line to `tell`, one part after the other in the order given.

    A part that fails keeps no other from running. On any exception (Ctrl-C is one) all of them and their children are
    ended before it goes on upwards.
    """
    turns, enders = _Turns(len(parts), tell), _Enders()

    def one(number: int, part: Part) -> Done:
        started = time.monotonic()
        turns.say(number, f"== {part.name}")
        try:
            ok = proc.stream(
                part.command, lambda line: turns.say(number, line), env=part.env, started=enders.add
            ).ok  # fmt: skip
        except proc.MissingProgramError as error:
            turns.say(number, str(error))
            ok = False
        finally:
            seconds = time.monotonic() - started
            turns.say(number, f"== {part.name}: {seconds:.1f} s")
            turns.end(number)
        return Done(part.name, ok, seconds)

    with ThreadPoolExecutor(max(1, len(parts))) as pool:
        try:
            running = [pool.submit(one, number, part) for number, part in enumerate(parts)]
            return [each.result() for each in running]
        except BaseException:
            enders.all()
            raise
