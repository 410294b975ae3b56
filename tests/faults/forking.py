"""A process that forks fetches to be killed: it imports gesso once, so that a kill costs milliseconds.

A separate program, because a fork requires a process without threads. One line of JSON on stdin is one round: a list
of jobs, each run by a child. It prints their process ids, and when all have ended their exit codes (negative: the
signal that killed it). A child's results are in its files: events, outcomes, received bytes.
"""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import signal
import struct
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso.manifest.schema import Model
from gesso.models import content
from gesso.models.download import hashing, journal, locks, model_download, transfer, unknown_length  # noqa: F401 - before the fork
from gesso.models.fetch import Options, fetch
from gesso.models.folder import Folder
from gesso.models.identify import header
from gesso.models.net import http, source
from gesso.models.net.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.models.events import Event


def child(job: dict[str, Any]) -> int:
    """Run the fetch of a job."""
    out = Path(job["out"])
    _count_received(out / "received")
    if block := job.get("block"):
        for module in (journal, hashing, model_download, source, transfer, unknown_length):
            module.BLOCK = block  # type: ignore[attr-defined]
        for module in (content, header):
            module.FIRST = block  # type: ignore[attr-defined]
    if "die_at" in job:
        _die_at(job["die_at"], out / "steps")
    if job.get("no_locks"):
        fcntl.flock = _no_locks  # type: ignore[assignment]
    events = os.open(out / "events", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def on_event(event: Event) -> None:
        os.write(events, json.dumps(event.as_json()).encode() + b"\n")

    models = [Model.model_validate(entry) for entry in job["models"]]
    limits = Limits(connections=job.get("connections", 4), retries=2, backoff=0.02)
    outcomes = fetch(models, Folder.at(Path(job["root"])), env={}, on_event=on_event, options=Options(limits=limits))
    rows = [
        {"name": o.model.name, "state": o.state, "received": o.received, "why": getattr(o.error, "why", ""),
         "message": str(o.error or o.note)}
        for o in outcomes
    ]  # fmt: skip
    (out / "outcomes").write_text(json.dumps(rows), encoding="utf-8")
    return 0 if all(row["state"] in {"there", "fetched"} for row in rows) else 4


def _count_received(path: Path) -> None:
    """Count received bytes where a kill cannot lose them: in a page shared with the disk."""
    path.write_bytes(bytes(8))
    with path.open("r+b") as file:
        page = mmap.mmap(file.fileno(), 8)
    guard, read_into = threading.Lock(), http.HttpConnection.read_into

    def counting(self: http.HttpConnection, view: memoryview) -> int:
        count = read_into(self, view)
        with guard:
            struct.pack_into("<Q", page, 0, struct.unpack_from("<Q", page)[0] + count)
        return count

    http.HttpConnection.read_into = counting  # type: ignore[method-assign]


def _die_at(step: int, count: Path) -> None:
    """Die before the step-th change to the disk; 0: never. `count` gets a line for each that was started."""
    guard, steps = threading.Lock(), 0
    counter = os.open(count, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    write, kill = os.write, os.kill

    def before(name: str, original: Callable[..., Any], *args: Any, **more: Any) -> Any:
        nonlocal steps
        if name == "open" and not args[1] & os.O_CREAT:
            return original(*args, **more)
        with guard:  # held while dying: no other thread does anything more
            steps += 1
            if steps == step:
                kill(os.getpid(), signal.SIGKILL)
            write(counter, f"{name}\n".encode())
            return original(*args, **more)

    def trap(module: Any, name: str) -> None:
        original = getattr(module, name)
        setattr(module, name, lambda *args, **more: before(name, original, *args, **more))

    for name in ("pwrite", "fsync", "ftruncate", "open", "mkdir", "rename", "replace", "unlink"):
        trap(os, name)
    trap(journal, "_fallocate")


def _no_locks(handle: int, operation: int) -> None:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def _fork(job: dict[str, Any]) -> int:
    if pid := os.fork():
        return pid
    code = 70
    try:
        code = child(job)
    except BaseException:  # noqa: BLE001 - the parent must never go on in a child
        Path(job["out"], "trace").write_text(traceback.format_exc(), encoding="utf-8")
    os._exit(code)


def main() -> None:
    """Serve rounds until stdin ends."""
    for line in sys.stdin:
        pids = [_fork(job) for job in json.loads(line)]
        print(json.dumps(pids), flush=True)  # noqa: T201 - the answer
        sys.stdin.readline()
        ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps(ends), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
