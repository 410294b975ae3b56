"""Run one contender in its own processes and measure its cost: time, CPU, memory.

The kernel's ru_maxrss is unsuitable: a child inherits the peak of the process that started it, and of several
children only the largest counts. So the whole process tree is sampled every few milliseconds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_INTERVAL = 0.03  # seconds between two samples of the process tree
_TIMEOUT = 1800.0  # seconds, for one run
_PATIENCE, _TRIES = 5.0, 2  # seconds to wait for a quiet machine before a run, and the most runs per measurement
_LONG = 10.0  # seconds: disturbances average out within such a run, so it is not repeated
QUIET = 0.3  # cores that other processes may use


@dataclass(frozen=True)
class Cost:
    """The cost of a run: wall seconds, CPU seconds of all its processes, peak bytes of memory; and its output.

    `others`: how many cores were busy with other processes than the run and its server.
    """

    seconds: float
    cpu: float
    memory: int
    code: int
    output: str
    others: float


def measure(
    command: Sequence[str],
    env: Mapping[str, str],
    cwd: Path,
    server: int | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> Cost:
    """Run a command on a machine as quiet as possible; `prepare` runs before it, `server` is its server's process id.

    Wait for other processes to finish, and repeat a run that they disturbed, whatever its time and for every
    contender alike. Return the cost of the least disturbed run.
    """
    best: Cost | None = None
    for _ in range(_TRIES):
        prepare()
        _wait_for_quiet()
        found = _once(command, env, cwd, server)
        if best is None or found.others < best.others:
            best = found
        if best.others <= QUIET or best.seconds > _LONG or best.code:
            break
    assert best is not None
    return best


def _wait_for_quiet() -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        started, busy = time.monotonic(), _busy()
        time.sleep(0.5)
        if (_busy() - busy) / (time.monotonic() - started) <= QUIET:
            return


def _busy() -> float:
    """Return the seconds that all cores together were busy since the machine started."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq = (int(field) for field in fields[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _used(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _once(command: Sequence[str], env: Mapping[str, str], cwd: Path, server: int | None) -> Cost:
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        serving = [] if server is None else _tree(server)
        busy = _busy() - sum(map(_used, serving)) - time.process_time()
        started = time.monotonic()
        process = subprocess.Popen(
            command, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        timer = threading.Timer(_TIMEOUT, _end, (process.pid,))
        watcher = _Watcher(process.pid)
        timer.start()
        watcher.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            _end(process.pid)
            raise
        finally:
            elapsed = time.monotonic() - started
            timer.cancel()
            watcher.ended.set()
            watcher.join()
        busy = _busy() - sum(map(_used, serving)) - time.process_time() - busy
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        output = out.read()
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(elapsed, cpu, watcher.peak, process.returncode, output, max(0.0, busy - cpu) / elapsed)


def _end(group: int) -> None:
    """Kill a process that we started and its children: it leads its own process group."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


class _Watcher(threading.Thread):
    """Samples the memory of a process and all its descendants."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.ended = threading.Event()
        self.peak = 0  # bytes

    def run(self) -> None:
        """Sample until `ended` is set."""
        while not self.ended.wait(_INTERVAL):
            samples = [_memory(pid) for pid in _tree(self._pid)]
            total = sum(now for now, _ in samples)
            self.peak = max(self.peak, total, *(peak for _, peak in samples), 0)


def _tree(pid: int) -> list[int]:
    pids, at = [pid], 0
    while at < len(pids):
        for children in Path(f"/proc/{pids[at]}/task").glob("*/children"):
            with suppress(OSError):
                pids += [int(child) for child in children.read_text().split()]
        at += 1
    return pids


def _memory(pid: int) -> tuple[int, int]:
    """Return the bytes that a process has in memory, and its peak; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    found = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM")))
    now, peak = (int(found.get(name, "0").split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak
