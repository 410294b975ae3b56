"""Every file of many distributions against the RECORD of each, in parallel: several GB where torch is among them."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_CHUNK = 1 << 20
_STEP = 16 << 20  # bytes between two reports
_KINDS = {"sha256", "sha384", "sha512"}


@dataclass(frozen=True)
class Row:
    """One file that a RECORD vouches for; `digest` as it is written there: KIND=BASE64."""

    path: str
    digest: str
    size: int


def rows(record: Path) -> tuple[Row, ...]:
    """Read what a RECORD vouches for: nothing, where it cannot be read."""
    try:
        with record.open(encoding="utf-8", newline="") as file:
            read = [row for row in csv.reader(file) if len(row) > 1 and row[1].partition("=")[0] in _KINDS]
    except (OSError, ValueError, csv.Error):
        return ()
    return tuple(Row(row[0], row[1], int(row[2]) if row[2:] and row[2].isdecimal() else 0) for row in read)


def damaged(
    site: Path, owned: Mapping[str, Sequence[Row]], on_progress: Callable[[int, int], None]
) -> dict[str, list[str]]:
    """Name, by distribution, the files that are gone or not what their RECORD says.

    Two distributions may bring one file: it is right where it is that of either. `on_progress` gets the bytes that
    were read and those that there are, from one thread at a time.
    """
    accepted: dict[str, set[str]] = {}
    owner: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for name, vouched in sorted(owned.items()):
        for row in vouched:
            accepted.setdefault(row.path, set()).add(row.digest)
            owner.setdefault(row.path, name)
            sizes[row.path] = max(row.size, sizes.get(row.path, 0))
    meter = _Meter(sum(sizes.values()), on_progress)
    found: dict[str, list[str]] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        # The largest first, so that none is left for one thread at the end.
        paths = sorted(accepted, key=lambda path: -sizes[path])
        results = pool.map(lambda path: _is_one_of(site / path, accepted[path], meter), paths)
        for path, right in zip(paths, results, strict=True):
            if not right:
                found.setdefault(owner[path], []).append(path)
    meter.end()
    return {name: sorted(paths) for name, paths in found.items()}


class _Meter:
    def __init__(self, total: int, tell: Callable[[int, int], None]) -> None:
        self._total, self._tell, self._lock = total, tell, threading.Lock()
        self._done = self._told = 0

    def add(self, count: int) -> None:
        with self._lock:
            self._done = min(self._done + count, self._total)
            if self._done >= self._told + _STEP:
                self._told = self._done
                self._tell(self._done, self._total)

    def end(self) -> None:
        self._tell(self._total, self._total)


def _is_one_of(path: Path, digests: set[str], meter: _Meter) -> bool:
    kinds = {digest.partition("=")[0] for digest in digests}
    hashes = {kind: hashlib.new(kind) for kind in kinds}
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return False
    with os.fdopen(handle, "rb", buffering=0) as file:
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return False
            while chunk := file.read(_CHUNK):
                for each in hashes.values():
                    each.update(chunk)
                meter.add(len(chunk))
        except OSError:
            return False
    written = {
        f"{kind}={base64.urlsafe_b64encode(each.digest()).rstrip(b'=').decode()}" for kind, each in hashes.items()
    }
    return bool(written & digests)
