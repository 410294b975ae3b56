"""Run a program and keep it running when the connection is lost: keep.py PROGRAM ARGUMENT...

A line `stop` on stdin interrupts the program as Ctrl-C does. Its output is forwarded after a line `gesso-begins`,
because login scripts print before; its exit code becomes this program's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def default_signals() -> None:
    """Restore the default signal handlers in the child."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def wait_for_stop(child: subprocess.Popen[bytes]) -> None:
    """Interrupt the child at each line `stop` on stdin."""
    for line in sys.stdin.buffer:
        if line.strip() == b"stop":
            child.send_signal(signal.SIGINT)


def forward(lines: Iterable[bytes], out: IO[bytes]) -> None:
    """Copy lines to a stream, to the end even after its reader is gone: else the child would block."""
    for line in lines:
        try:
            out.write(line)
            out.flush()
        except (OSError, ValueError):
            pass


def main(argv: list[str]) -> int:
    """Run the program; return its exit code, 128 + N where signal N ended it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=default_signals,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    forward([b"gesso-begins\n"], sys.stdout.buffer)
    threading.Thread(target=wait_for_stop, args=(child,), daemon=True).start()
    errors = threading.Thread(target=forward, args=(child.stderr, sys.stderr.buffer))
    errors.start()
    forward(child.stdout, sys.stdout.buffer)
    errors.join()
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # the thread that reads stdin would delay the exit
