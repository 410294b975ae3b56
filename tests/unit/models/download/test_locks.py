"""Who holds a model's lock works on it; the others wait, or leave it, and a filesystem without locks stops nobody."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, NoReturn

import pytest
from filelock import FileLock

from gesso.models.download import locks
from gesso.models.download.locks import Busy, hold
from gesso.models.faults import LocalError

if TYPE_CHECKING:
    from pathlib import Path


class Enough(Exception):  # noqa: N818 - what ends a wait in these tests
    pass


def never() -> NoReturn:
    raise AssertionError("nobody else has it")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_POLL", 0.01)


def test_a_free_lock_is_held_without_waiting_and_let_go(tmp_path: Path) -> None:
    path = tmp_path / "state" / "locks" / "a.lock"
    for _ in range(2):
        with hold(path, never, never):
            with pytest.raises(Busy), hold(path, never, never, patient=False):
                raise AssertionError("two have it")
            assert path.is_file()
    with hold(path, never, never, patient=False):
        pass


def test_it_is_let_go_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(Enough), hold(tmp_path / "a", never, never):
        raise Enough
    with hold(tmp_path / "a", never, never, patient=False):
        pass


def test_another_s_lock_is_waited_for_and_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    turns: list[int] = []

    def go_on() -> None:
        turns.append(1)
        if len(turns) == 3:
            other.release()

    other = FileLock(tmp_path / "a", thread_local=False)
    other.acquire()
    with hold(tmp_path / "a", lambda: said.append("waits"), go_on):
        assert said == ["waits"]
    assert len(turns) >= 3


def test_who_is_asked_to_stop_stops_waiting(tmp_path: Path) -> None:
    def stop() -> None:
        raise Enough

    with FileLock(tmp_path / "a"), pytest.raises(Enough), hold(tmp_path / "a", lambda: None, stop):
        raise AssertionError("two have it")


def test_only_one_of_many_threads_is_in_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with hold(tmp_path / "a", lambda: None, lambda: None):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


@pytest.mark.parametrize("error", [NotImplementedError(), OSError(errno.ENOLCK, "no"), OSError(errno.EOPNOTSUPP, "no")])
def test_a_filesystem_without_locks_is_no_reason_to_do_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    done = []
    with hold(tmp_path / "a", never, never):
        done.append(1)
    assert done == [1]


@pytest.mark.parametrize(
    ("code", "why"), [(errno.EROFS, "read-only"), (errno.ENOSPC, "disk-full"), (errno.EIO, "io-error")]
)
def test_a_lock_that_cannot_be_made_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, why: str
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(LocalError, match=str(tmp_path / "a")) as caught, hold(tmp_path / "a", never, never):
        raise AssertionError("it is not held")
    assert caught.value.why == why


def test_a_state_that_is_no_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalError) as caught, hold(tmp_path / "file" / "locks" / "a", never, never):
        raise AssertionError("it is not held")
    assert caught.value.why == "in-the-way"
