"""Verify the files at the models' final paths: one verdict per file, with evidence and the next step.

Levels: `fast` believes a valid receipt and reads the whole file where there is none; `header` looks at size and header
alone, so that its best answer is "unproven"; `full` reads everything. Where a file has another size than an unconfirmed
one of the lock, every level reads the whole file: its hash decides.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from gesso.models import receipts
from gesso.models.content import hash_error, judge, remark

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
Proof = Literal["receipt", "header", "hash", ""]
_CHUNK = 1 << 20  # bytes a read: larger ones leave the processor's cache before they are hashed
_POLL = 0.1  # seconds
_FETCH = "run `gesso fetch`"


@dataclass(frozen=True)
class Verdict:
    """The result for one model's final path.

    `by` says what proved it: a receipt, its header, or its hash; `remark` what is wrong in the lock, where that is.
    """

    name: str
    tier: str
    status: Status
    evidence: str
    next_step: str = ""
    by: Proof = ""
    size: int | None = None
    remark: str = ""

    @property
    def ok(self) -> bool:
        """Whether the bytes are proven to be right; "unproven" is not."""
        return self.status == "ok"

    @property
    def bad(self) -> bool:
        """Whether the file at the final path must not be used."""
        return self.status not in {"ok", "unproven", "missing"}


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """A stop of the check was requested."""


def check(
    model: Model,
    folder: Folder,
    level: Level = "fast",
    on_bytes: Callable[[int], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Verdict:
    """Check one model. `on_bytes` gets the number of bytes hashed since the last call; a proven file gets a receipt."""
    path = folder.path(model.name)
    if level == "fast" and receipts.is_valid(folder, model.name, model.sha256):
        return _ok(model, "receipt", "its receipt is valid", _size_of(path))
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a pipe must not block
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
    as_said = model.size_confirmed or model.size in (None, size)
    if level == "header" and as_said:  # else only the hash shows whether the file or the lock's size is wrong
        evidence = "size and header are right; its bytes were not hashed"
        return Verdict(model.name, model.tier, "unproven", evidence, "run `gesso verify`", "header", size)
    digest = sha256_of(handle, on_bytes, stop)
    after = os.fstat(handle)
    if receipts.file_state(before) != receipts.file_state(after):
        evidence = "it was written to while it was read"
        return Verdict(model.name, model.tier, "unreadable", evidence, "find out who writes to it, then check again")
    if digest != model.sha256:
        found = _bad(model, hash_error(model, digest, size), size, "hash")
        return replace(found, evidence=f"right size, {found.evidence}") if model.size == size else found
    receipts.write(folder, model.name, model.sha256, before)
    return _ok(model, "hash", "its sha256 is right", size)


def _ok(model: Model, by: Proof, evidence: str, size: int) -> Verdict:
    return Verdict(model.name, model.tier, "ok", evidence, by=by, size=size, remark=remark(model, size))


def _bad(model: Model, fault: ContentError, size: int, by: Proof = "header") -> Verdict:
    status: Status = "wrong-hash" if fault.why == "wrong-size" else fault.why
    return Verdict(model.name, model.tier, status, fault.message, _FETCH, by, size)


def _unreadable(model: Model, error: OSError) -> Verdict:
    said = error.strerror or type(error).__name__
    step = "look at its permissions" if error.errno in {errno.EACCES, errno.EPERM} else "check the disk"
    if error.errno in {errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO}:
        step = "move away what stands there"
    return Verdict(model.name, model.tier, "unreadable", said, step)


def sha256_of(
    handle: int, on_bytes: Callable[[int], None] = lambda _: None, stop: threading.Event | None = None
) -> str:
    """Hash an open file from its start, in constant memory.

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
    """Return the number of cores that this process may use."""
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
    """Check models in parallel on all cores; return the verdicts in the order of `models`.

    The largest are begun first, so that none is left over at the end. Ctrl-C stops all at once.
    """
    stop = threading.Event()
    found: dict[str, Verdict] = {}

    def one(model: Model) -> None:
        found[model.name] = verdict = check(model, folder, level, lambda n: on_bytes(model.name, n), stop)
        on_verdict(verdict)

    if level == "fast":  # receipts take microseconds: threads would cost more
        pending = []
        for model in models:
            if receipts.is_valid(folder, model.name, model.sha256):
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
                while waiting:  # wake up regularly: a Ctrl-C at the beginning of a wait may be lost
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
