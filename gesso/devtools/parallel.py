"""Run programs in parallel, print the output of each without interleaving, and measure their time."""

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
    """One program of a run: its name, command, and additional environment variables."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PartResult:
    """The result of a part; `seconds` is wall-clock time on a shared machine."""

    name: str
    ok: bool
    seconds: float


class _OrderedOutput:
    """Passes on the lines of one part at a time, in order; the others' lines are buffered until their turn."""

    def __init__(self, count: int, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._buffers: list[deque[str]] = [deque() for _ in range(count)]
        self._ended = [False] * count
        self._current = 0
        self._lock = threading.Lock()

    def add(self, number: int, line: str) -> None:
        with self._lock:
            self._buffers[number].append(line)
            self._flush()

    def end(self, number: int) -> None:
        with self._lock:
            self._ended[number] = True
            self._flush()

    def _flush(self) -> None:
        while self._current < len(self._buffers):
            buffer = self._buffers[self._current]
            while buffer:
                self._on_line(buffer.popleft())
            if not self._ended[self._current]:
                return
            self._current += 1


class _RunningParts:
    """The running programs; after `terminate` a program that starts is terminated at once."""

    def __init__(self) -> None:
        self._terminators: list[Callable[[], None]] = []
        self._terminated = False
        self._lock = threading.Lock()

    def add(self, terminate: Callable[[], None]) -> None:
        with self._lock:
            self._terminators.append(terminate)
            terminated = self._terminated
        if terminated:
            terminate()

    def terminate(self) -> None:
        with self._lock:
            self._terminated = True
            terminators = list(self._terminators)
        threads = [threading.Thread(target=terminate) for terminate in terminators]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def run(parts: Sequence[Part], on_line: Callable[[str], None]) -> list[PartResult]:
    """Run all parts in parallel; pass every line to `on_line`, one part after the other in the given order.

    A failed part stops no other. On any exception (also Ctrl-C) all parts and their children are terminated before it
    propagates.
    """
    output, running = _OrderedOutput(len(parts), on_line), _RunningParts()

    def run_part(number: int, part: Part) -> PartResult:
        started = time.monotonic()
        output.add(number, f"== {part.name}")
        try:
            ok = proc.stream(
                part.command, lambda line: output.add(number, line), env=part.env, on_start=running.add
            ).ok  # fmt: skip
        except proc.MissingProgramError as error:
            output.add(number, str(error))
            ok = False
        finally:
            seconds = time.monotonic() - started
            output.add(number, f"== {part.name}: {seconds:.1f} s")
            output.end(number)
        return PartResult(part.name, ok, seconds)

    with ThreadPoolExecutor(max(1, len(parts))) as pool:
        try:
            futures = [pool.submit(run_part, number, part) for number, part in enumerate(parts)]
            return [future.result() for future in futures]
        except BaseException:
            running.terminate()
            raise
