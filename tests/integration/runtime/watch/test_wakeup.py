"""A sleep ends with a real process."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from gesso.runtime.watch.wakeup import Wakeup

LONG = 30.0  # seconds


def _process(seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-c", f"import time; time.sleep({seconds})"])


def test_the_end_of_a_process_ends_the_sleep() -> None:
    wakeup, other, process = Wakeup(), _process(LONG), _process(LONG)
    try:
        assert wakeup.wait(0.05, [other.pid, process.pid]) is False
        process.kill()
        started = time.monotonic()
        assert wakeup.wait(LONG, [other.pid, process.pid]) is True
        assert time.monotonic() - started < LONG / 2
        assert wakeup.wait(LONG, [process.pid]) is True, "it ended, but nobody has waited for it"
        process.wait()
        assert wakeup.wait(LONG, [other.pid, process.pid]) is True, "it is gone"
        assert wakeup.wait(0.01, [other.pid]) is False
    finally:
        for each in (other, process):
            each.kill()
            each.wait()
        os.close(wakeup._event)
