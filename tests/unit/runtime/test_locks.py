"""A held lock is detected, and checking does not take it."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from gesso.runtime import locks

if TYPE_CHECKING:
    from pathlib import Path


def test_a_held_lock_is_detected(tmp_path: Path) -> None:
    lock = tmp_path / "heal.lock"
    assert not locks.is_held(lock)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT)
    assert not locks.is_held(lock)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert locks.is_held(lock)
    os.close(handle)
    assert not locks.is_held(lock)


def test_checking_leaves_no_lock_behind(tmp_path: Path) -> None:
    lock = tmp_path / "heal.lock"
    lock.touch()
    assert not locks.is_held(lock)
    handle = os.open(lock, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)
