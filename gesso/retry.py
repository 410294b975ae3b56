"""How often and how long to try again: a clock that tests can turn, and waits that double."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRIES = 7
FIRST, LAST = 1.0, 30.0  # seconds of waiting; seven tries take a minute


@dataclass(frozen=True)
class Clock:
    """Time, in seconds; tests give a fast one."""

    sleep: Callable[[float], None] = time.sleep


def waits(tries: int = TRIES) -> Iterator[float]:
    """Give the seconds to wait after each try but the last, which fails for good."""
    wait = FIRST
    for _ in range(tries - 1):
        yield wait
        wait = min(wait * 2, LAST)
