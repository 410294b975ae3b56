"""Lock files: written by `invoke lock`; every other command reads them, and refuses stale ones."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gesso.builder.lock.python_pins import Pin, read_pins
from gesso.errors import LockError
from gesso.manifest.lock import Lock, contradictions, read_lock, stale_inputs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gesso.manifest.schema import Manifest
    from gesso.settings import Selection


@dataclass(frozen=True)
class Locked:
    """A lock that matches its manifest, and its Python pins."""

    lock: Lock
    pins: tuple[Pin, ...]


def read_fresh(selection: Selection, manifest: Manifest) -> Locked:
    """Read the lock of a selection. No network.

    An overlay that changes no locked input needs no lock of its own. Raises LockError that names the missing file, the
    changed inputs, or where the lock contradicts the manifest.
    """
    own = selection if selection.lock.is_file() or not selection.overlays else selection.without_overlays
    remedy = f"run `invoke lock {selection.flags}`"
    if not own.lock.is_file():
        raise LockError(f"{own.lock.name}: no such lock", remedy)
    lock = read_lock(own.lock)
    if changed := stale_inputs(lock, manifest):
        raise LockError(f"{own.lock.name} is stale; changed since it was made: {_printable(changed)}", remedy)
    if wrong := contradictions(lock, manifest):
        raise LockError(
            f"{own.lock.name} was changed by hand: it contradicts the manifest in {_printable(wrong)}", remedy
        )
    try:
        text = own.python_lock.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LockError(f"{own.python_lock.name}: {error.strerror}", remedy) from None
    if hashlib.sha256(text.encode()).hexdigest() != lock.python.sha256:
        raise LockError(f"{own.python_lock.name} does not match {own.lock.name}", remedy)
    return Locked(lock, read_pins(text))


def _printable(names: Iterable[str]) -> str:
    """Join names from a lock to one line, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in ", ".join(names))[:600]


def write(selection: Selection, lock: Lock, python_lock: str) -> list[Path]:
    """Write both files atomically, each by rename, and return those that changed."""
    selection.lock.parent.mkdir(parents=True, exist_ok=True)
    changed = []
    for path, text in ((selection.python_lock, python_lock), (selection.lock, lock.dumps())):
        if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
            replace(path, text)
            changed.append(path)
    return changed


def replace(path: Path, text: str) -> None:
    """Write a text file atomically, by rename: a reader sees the old or the new one, never a part."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
