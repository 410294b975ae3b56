"""Sleep until something happens: a watched process ends, somebody asks for a check, or the time is over.

The kernel tells when a process ends (pidfd_open(2)): an idle instance need not ask the supervisor twice a second.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Wakeup:
    """One sleeper; `poke` may be called from any thread, and from a signal handler."""

    def __init__(self) -> None:
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def poke(self) -> None:
        """Wake the sleeper, or prevent its next sleep."""
        with contextlib.suppress(OSError):
            os.eventfd_write(self._event, 1)

    def wait(self, seconds: float, pids: Iterable[int] = ()) -> bool:
        """Sleep at most `seconds`; return whether it was poked, or one of the processes ended or does not exist."""
        poll = select.poll()
        poll.register(self._event, select.POLLIN)
        opened: list[int] = []
        try:
            for pid in pids:
                try:
                    opened.append(os.pidfd_open(pid))
                except ProcessLookupError:
                    return True
                except OSError:  # the kernel cannot: the time decides
                    continue
                poll.register(opened[-1], select.POLLIN)
            woken = bool(poll.poll(1000 * seconds))
        finally:
            for handle in opened:
                os.close(handle)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        return woken
