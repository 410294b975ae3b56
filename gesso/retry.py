"""Retry with exponential backoff. Tests inject the clock."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRIES = 7
INITIAL_DELAY, MAX_DELAY = 1.0, 30.0  # seconds; seven tries take a minute


@dataclass(frozen=True)
class Clock:
    """The sleep function, in seconds; tests use a fast one."""

    sleep: Callable[[float], None] = time.sleep


def backoff(tries: int = TRIES) -> Iterator[float]:
    """Yield the seconds to wait after each try but the last."""
    delay = INITIAL_DELAY
    for _ in range(tries - 1):
        yield delay
        delay = min(delay * 2, MAX_DELAY)
