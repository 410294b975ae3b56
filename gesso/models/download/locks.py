"""A lock per model: a kernel lock, which is released when its holder ends, however it ends."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from gesso.models.local_disk import disk_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_POLL = 0.1  # seconds
_NONE_HERE = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}


class Busy(Exception):  # noqa: N818 - not an error: somebody else does the work
    """Another process holds it."""


@contextmanager
def hold(
    path: Path, on_wait: Callable[[], None], go_on: Callable[[], None], *, patient: bool = True, what: str = "a lock"
) -> Iterator[None]:
    """Hold the lock at `path`; `what` is its name in messages.

    Where another has it `on_wait` is called once, and `go_on` again and again: it may raise.

    A filesystem without locks is no reason to do nothing: then the work may be done twice, and the partial file's mark
    (see journal) keeps one process from writing into what the other has finished. Nor is a lock by a file's mere
    existence used there: one left by a container that was killed would never go.

    Raises LocalError, and Busy where it is not `patient`.
    """
    said = False
    lock = FileLock(path, mode=0o666, fallback_to_soft=False)
    while not _taken(lock, f"{what}, {path}", path, _POLL if patient else 0):
        if not patient:
            raise Busy
        go_on()
        if not said:
            on_wait()
            said = True
    try:
        yield
    finally:
        lock.release()


def _taken(lock: FileLock, what: str, path: Path, seconds: float) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in _NONE_HERE:
            raise disk_error(error, what) from None
    return True
