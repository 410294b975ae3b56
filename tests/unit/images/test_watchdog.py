"""The watchdog's decision: which process to kill, and after how many missed answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.image_programs import load


@pytest.fixture
def watchdog(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load("watchdog", monkeypatch).Watchdog()


def _check(watchdog: Any, pid: int, *, answers: bool) -> int:
    found: int = watchdog.check(pid, lambda: answers)
    return found


def test_three_missed_answers_in_a_row(watchdog: Any) -> None:
    assert [_check(watchdog, 7, answers=False) for _ in range(3)] == [0, 0, 7]


def test_an_answer_in_between_counts_anew(watchdog: Any) -> None:
    assert [_check(watchdog, 7, answers=a) for a in (False, False, True, False, False, False)] == [0, 0, 0, 0, 0, 7]


def test_another_process_counts_anew(watchdog: Any) -> None:
    """It was restarted: the new one starts up."""
    assert [_check(watchdog, pid, answers=False) for pid in (7, 7, 8, 8, 8)] == [0, 0, 0, 0, 8]


def test_no_process_is_not_asked_and_counts_anew(watchdog: Any) -> None:
    def answers() -> bool:
        raise AssertionError("nobody listens")

    assert [_check(watchdog, 7, answers=False) for _ in range(2)] == [0, 0]
    assert watchdog.check(0, answers) == 0
    assert [_check(watchdog, 7, answers=False) for _ in range(3)] == [0, 0, 7]


def test_a_process_that_does_not_end_is_killed_again(watchdog: Any) -> None:
    assert [_check(watchdog, 7, answers=False) for _ in range(4)] == [0, 0, 7, 7]
