"""Who holds a lock is at work, and asking takes it from nobody."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from gesso.runtime import locks

if TYPE_CHECKING:
    from pathlib import Path


def test_who_holds_the_lock_is_at_work(tmp_path: Path) -> None:
    lock = tmp_path / "heal.lock"
    assert not locks.taken(lock)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT)
    assert not locks.taken(lock)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert locks.taken(lock)
    os.close(handle)
    assert not locks.taken(lock)


def test_asking_leaves_no_lock_behind(tmp_path: Path) -> None:
    lock = tmp_path / "heal.lock"
    lock.touch()
    assert not locks.taken(lock)
    handle = os.open(lock, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)
