"""The journal and the report of a heal: files that the terminal, the page and other programs read (docs/adr/0022)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from typing import TYPE_CHECKING, Any

from gesso import small_files

if TYPE_CHECKING:
    from pathlib import Path

MAX_REPORTS = 50
_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}\Z")


def new_id(now: float) -> str:
    """Return an ID for a heal that begins at `now`. IDs sort by time, to a quarter of a millisecond."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{int(now % 1 * 4096):03x}{secrets.token_hex(2)[:3]}"


def is_id(text: str) -> bool:
    """Return whether `text` is a valid ID. Checked before input from outside becomes a path."""
    return _ID.match(text) is not None


class Journal:
    """The events of a heal, one line of JSON each. Write errors are ignored: a full disk must not stop a heal."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path, self._folder, self.name = folder / f"{name}.jsonl", folder, name

    def emit(self, event: str, **facts: Any) -> dict[str, Any]:
        """Append an event, and return it."""
        line = {"at": round(time.time(), 3), "event": event, **facts}
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
            try:
                os.write(handle, f"{json.dumps(line)}\n".encode())
            finally:
                os.close(handle)
        return line

    def end(self, report: dict[str, Any]) -> None:
        """Write the report in one step, and remove the oldest ones."""
        with contextlib.suppress(OSError):
            new = self._folder / f".{self.name}.new"
            new.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            new.replace(self._folder / f"{self.name}.json")
        trim(self._folder)


def trim(folder: Path, max_reports: int = MAX_REPORTS) -> None:
    """Remove the oldest reports and their journals."""
    for name in names(folder)[max_reports:]:
        for suffix in (".json", ".jsonl"):
            with contextlib.suppress(OSError):
                (folder / f"{name}{suffix}").unlink(missing_ok=True)


def names(folder: Path) -> list[str]:
    """Return the IDs of the stored heals, the latest first."""
    with contextlib.suppress(OSError):
        return sorted({path.stem for path in folder.iterdir() if is_id(path.stem)}, reverse=True)
    return []


def read(folder: Path, name: str) -> dict[str, Any] | None:
    """Return a report; None where there is none (yet)."""
    try:
        found = small_files.read_json(folder / f"{name}.json")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def lines(folder: Path, name: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return the events of the journal from `offset` (bytes) on, and the offset to continue from.

    A last line without a newline is left for the next call.
    """
    try:
        with small_files.open_regular(folder / f"{name}.jsonl") as file:
            file.seek(offset)
            data = file.read()
    except OSError:
        return [], offset
    complete = data[: data.rfind(b"\n") + 1]
    found = []
    for line in complete.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict):
                found.append(event)
    return found, offset + len(complete)
