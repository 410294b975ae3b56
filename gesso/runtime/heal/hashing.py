"""Compare every file of many distributions with their RECORDs, in parallel: several GB where torch is among them."""

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
_REPORT_EVERY = 16 << 20  # bytes
_KINDS = {"sha256", "sha384", "sha512"}


@dataclass(frozen=True)
class Row:
    """One file with a digest in a RECORD; `digest` as it is written there: KIND=BASE64."""

    path: str
    digest: str
    size: int


def rows(record: Path) -> tuple[Row, ...]:
    """Return the rows of a RECORD that have a digest; none where it cannot be read."""
    try:
        with record.open(encoding="utf-8", newline="") as file:
            read = [row for row in csv.reader(file) if len(row) > 1 and row[1].partition("=")[0] in _KINDS]
    except (OSError, ValueError, csv.Error):
        return ()
    return tuple(Row(row[0], row[1], int(row[2]) if row[2:] and row[2].isdecimal() else 0) for row in read)


def damaged(
    site: Path, owned: Mapping[str, Sequence[Row]], on_progress: Callable[[int, int], None]
) -> dict[str, list[str]]:
    """Return, by distribution, the files that are missing or differ from their RECORD.

    Two distributions may own the same file: the version of either is accepted. `on_progress` gets the bytes read so far
    and in total, from one thread at a time.
    """
    accepted: dict[str, set[str]] = {}
    owner: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for name, recorded in sorted(owned.items()):
        for row in recorded:
            accepted.setdefault(row.path, set()).add(row.digest)
            owner.setdefault(row.path, name)
            sizes[row.path] = max(row.size, sizes.get(row.path, 0))
    meter = _Meter(sum(sizes.values()), on_progress)
    found: dict[str, list[str]] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        # The largest first, so that no thread is left alone with one at the end.
        paths = sorted(accepted, key=lambda path: -sizes[path])
        results = pool.map(lambda path: _is_one_of(site / path, accepted[path], meter), paths)
        for path, intact in zip(paths, results, strict=True):
            if not intact:
                found.setdefault(owner[path], []).append(path)
    meter.end()
    return {name: sorted(paths) for name, paths in found.items()}


class _Meter:
    def __init__(self, total: int, on_progress: Callable[[int, int], None]) -> None:
        self._total, self._on_progress, self._lock = total, on_progress, threading.Lock()
        self._done = self._reported = 0

    def add(self, count: int) -> None:
        with self._lock:
            self._done = min(self._done + count, self._total)
            if self._done >= self._reported + _REPORT_EVERY:
                self._reported = self._done
                self._on_progress(self._done, self._total)

    def end(self) -> None:
        self._on_progress(self._total, self._total)


def _is_one_of(path: Path, digests: set[str], meter: _Meter) -> bool:
    kinds = {digest.partition("=")[0] for digest in digests}
    hashes = {kind: hashlib.new(kind) for kind in kinds}
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return False
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return False
        while chunk := os.read(handle, _CHUNK):
            for each in hashes.values():
                each.update(chunk)
            meter.add(len(chunk))
    except OSError:
        return False
    finally:
        os.close(handle)
    actual = {
        f"{kind}={base64.urlsafe_b64encode(each.digest()).rstrip(b'=').decode()}" for kind, each in hashes.items()
    }
    return bool(actual & digests)
