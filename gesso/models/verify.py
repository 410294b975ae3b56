"""Is the file at a model's final path the wanted one? One verdict a file, with evidence and the next step.

Levels: `fast` believes a valid receipt and reads the whole file where there is none; `header` looks at size and header
alone, so that its best answer is "unproven"; `full` reads everything.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gesso.models import receipts
from gesso.models.content import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gesso.manifest.schema import Model
    from gesso.models.faults import ContentError
    from gesso.models.folder import Folder

Level = Literal["fast", "header", "full"]
Status = Literal[
    "ok", "unproven", "missing", "unreadable", "html", "json", "lfs-pointer", "pickle", "stub", "truncated",
    "oversized", "malformed", "wrong-family", "wrong-hash",
]  # fmt: skip
_CHUNK = 1 << 20  # bytes a read: larger ones leave the processor's cache before they are hashed
_POLL = 0.1  # seconds
_FETCH = "run `gesso fetch`"


@dataclass(frozen=True)
class Verdict:
    """What was found at one model's final path. `by` says what proved it: a receipt, its header, or its hash."""

    name: str
    tier: str
    status: Status
    evidence: str
    next_step: str = ""
    by: Literal["receipt", "header", "hash", ""] = ""
    size: int | None = None

    @property
    def ok(self) -> bool:
        """True where the bytes are the wanted ones; "unproven" is not that."""
        return self.status == "ok"

    @property
    def bad(self) -> bool:
        """True where something stands at the final path that must not be used."""
        return self.status not in {"ok", "unproven", "missing"}


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The check was asked to stop."""


def check(
    model: Model,
    folder: Folder,
    level: Level = "fast",
    on_bytes: Callable[[int], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Verdict:
    """Check one model. `on_bytes` is told how many were hashed since the last call; a proven file gets a receipt."""
    path = folder.path(model.name)
    if level == "fast" and receipts.holds(folder, model.name, model.sha256):
        return Verdict(model.name, model.tier, "ok", "its receipt is valid", by="receipt", size=_size_of(path))
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hang us
    except FileNotFoundError:
        where = "a link that leads nowhere" if path.is_symlink() else "no such file"
        return Verdict(model.name, model.tier, "missing", where, _FETCH)
    except OSError as error:
        return _unreadable(model, error)
    try:
        return _check_open(model, folder, level, handle, on_bytes, stop)
    except OSError as error:
        return _unreadable(model, error)
    finally:
        os.close(handle)


def _check_open(
    model: Model, folder: Folder, level: Level, handle: int, on_bytes: Callable[[int], None],
    stop: threading.Event | None,
) -> Verdict:  # fmt: skip
    before = os.fstat(handle)
    if not stat.S_ISREG(before.st_mode):
        return Verdict(model.name, model.tier, "unreadable", "not a regular file", "move away what stands there")
    size = before.st_size
    if fault := judge(model, lambda offset, length: os.pread(handle, length, offset), size):
        return _bad(model, fault, size)
    if level == "header":
        evidence = "size and header are right; its bytes were not hashed"
        return Verdict(model.name, model.tier, "unproven", evidence, "run `gesso verify`", "header", size)
    digest = sha256_of(handle, on_bytes, stop)
    after = os.fstat(handle)
    if receipts.looks(before) != receipts.looks(after):
        evidence = "it was written to while it was read"
        return Verdict(model.name, model.tier, "unreadable", evidence, "find out who writes to it, then check again")
    if digest != model.sha256:
        evidence = f"right size, sha256 {digest}, the lock says {model.sha256}"
        if model.size is None:
            evidence = f"sha256 {digest}, the lock says {model.sha256}"
        return Verdict(model.name, model.tier, "wrong-hash", evidence, _FETCH, "hash", size)
    receipts.write(folder, model.name, model.sha256, before)
    return Verdict(model.name, model.tier, "ok", "its sha256 is right", by="hash", size=size)


def _bad(model: Model, fault: ContentError, size: int) -> Verdict:
    status: Status = "wrong-hash" if fault.why == "wrong-size" else fault.why
    return Verdict(model.name, model.tier, status, fault.message, _FETCH, "header", size)


def _unreadable(model: Model, error: OSError) -> Verdict:
    said = error.strerror or type(error).__name__
    step = "look at its permissions" if error.errno in {errno.EACCES, errno.EPERM} else "check the disk"
    if error.errno in {errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO}:
        step = "move away what stands there"
    return Verdict(model.name, model.tier, "unreadable", said, step)


def sha256_of(
    handle: int, on_bytes: Callable[[int], None] = lambda _: None, stop: threading.Event | None = None
) -> str:
    """Hash an open file from its start; constant memory.

    Raises OSError, and Stopped.
    """
    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    at = 0
    while count := os.preadv(handle, [buffer], at):
        digest.update(view[:count])
        at += count
        on_bytes(count)
        if stop is not None and stop.is_set():
            raise Stopped
    return digest.hexdigest()


def cores() -> int:
    """Give how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def audit(
    models: Sequence[Model],
    folder: Folder,
    level: Level = "fast",
    *,
    workers: int | None = None,
    on_bytes: Callable[[str, int], None] = lambda *_: None,
    on_verdict: Callable[[Verdict], None] = lambda _: None,
) -> list[Verdict]:
    """Check many, side by side on every core, and give the verdicts in the order of `models`.

    The largest are begun first, so that none is left over at the end. Ctrl-C stops all at once.
    """
    stop = threading.Event()
    found: dict[str, Verdict] = {}

    def one(model: Model) -> None:
        found[model.name] = verdict = check(model, folder, level, lambda n: on_bytes(model.name, n), stop)
        on_verdict(verdict)

    if level == "fast":  # receipts cost microseconds: no thread is worth it
        pending = []
        for model in models:
            if receipts.holds(folder, model.name, model.sha256):
                one(model)
            else:
                pending.append(model)
    else:
        pending = list(models)
    if pending:
        ordered = sorted(pending, key=lambda model: -_size_of(folder.path(model.name)))
        with ThreadPoolExecutor(min(workers or cores(), len(ordered)), "verify") as pool:
            try:
                waiting = {pool.submit(one, model) for model in ordered}
                while waiting:  # woken again and again: a Ctrl-C that comes as a wait begins may be lost in it
                    finished, waiting = wait(waiting, _POLL, FIRST_COMPLETED)
                    for future in finished:
                        future.result()
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
    return [found[model.name] for model in models]


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
