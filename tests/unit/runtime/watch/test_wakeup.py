"""The sleep that something ends: a poke from any thread, a process that is gone, or the time."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gesso.runtime.watch.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 30.0  # seconds; no test takes that long


@pytest.fixture
def wakeup() -> Iterator[Wakeup]:
    made = Wakeup()
    yield made
    os.close(made._event)


def test_the_time_is_over(wakeup: Wakeup) -> None:
    started = time.monotonic()
    assert wakeup.wait(0.05) is False
    assert 0.04 < time.monotonic() - started < LONG


def test_a_poke_before_prevents_one_sleep(wakeup: Wakeup) -> None:
    for _ in range(3):
        wakeup.poke()
    assert wakeup.wait(LONG) is True
    assert wakeup.wait(0.01) is False, "several are one"


def test_a_poke_ends_the_sleep(wakeup: Wakeup) -> None:
    timer = threading.Timer(0.05, wakeup.poke)
    timer.start()
    started = time.monotonic()
    assert wakeup.wait(LONG) is True
    assert time.monotonic() - started < LONG / 2
    timer.join()


def test_a_poke_never_fails(wakeup: Wakeup, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called from a signal handler."""
    os.eventfd_write(wakeup._event, 2**64 - 2)  # the counter is full
    wakeup.poke()
    assert wakeup.wait(LONG) is True


def test_a_process_that_does_not_exist(wakeup: Wakeup, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: int) -> int:
        raise ProcessLookupError

    monkeypatch.setattr(os, "pidfd_open", gone)
    assert wakeup.wait(LONG, [4_000_000]) is True


def test_a_living_process_does_not_wake(wakeup: Wakeup) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    assert wakeup.wait(0.01, [os.getpid(), os.getppid()]) is False
    assert set(Path("/proc/self/fd").iterdir()) == before, "its descriptors are closed"


@pytest.mark.parametrize("error", [OSError(38, "Function not implemented"), OSError(24, "Too many open files")])
def test_where_the_kernel_cannot_the_time_decides(
    wakeup: Wakeup, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def fail(_: int) -> int:
        raise error

    monkeypatch.setattr(os, "pidfd_open", fail)
    assert wakeup.wait(0.01, [1]) is False
    wakeup.poke()
    assert wakeup.wait(LONG, [1]) is True
