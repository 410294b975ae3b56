"""Run fetches in their own processes, and check the invariants after each, however it ended."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso.models import receipts
from gesso.models.folder import Folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mirror import Record

    from gesso.manifest.schema import Model

HERE = Path(__file__).resolve().parent
PATIENCE = 120.0  # seconds before a test fails; none passes by waiting that long
_PAGE = 4096  # the journal: a page, then a byte for each block


@dataclass
class Child:
    """One fetch in its own process."""

    pid: int
    out: Path
    end: int | None = None  # exit code; negative: the signal that killed it

    @property
    def received(self) -> int:
        """Bytes that it received, also if it was killed."""
        with contextlib.suppress(FileNotFoundError):
            raw = (self.out / "received").read_bytes()
            return int(struct.unpack("<Q", raw)[0]) if len(raw) == 8 else 0
        return 0

    @property
    def events(self) -> list[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):
            lines = (self.out / "events").read_text(encoding="utf-8").split("\n")[:-1]
            return [json.loads(line) for line in lines]
        return []

    def has(self, kind: str) -> bool:
        return any(event["kind"] == kind for event in self.events)

    @property
    def outcome(self) -> dict[str, Any]:
        trace = self.out / "trace"
        assert not trace.exists(), trace.read_text(encoding="utf-8")
        [row] = json.loads((self.out / "outcomes").read_text(encoding="utf-8"))
        assert isinstance(row, dict)
        return row

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)


class Forks:
    """The forking process (see forking.py)."""

    def __init__(self, scratch: Path) -> None:
        self._scratch, self._count = scratch, 0
        scratch.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "forking.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(HERE.parents[1])},
        )  # fmt: skip

    def begin(self, *jobs: dict[str, Any]) -> list[Child]:
        """Start a child for each job; all must be waited for before the next round."""
        outs = []
        for job in jobs:
            self._count += 1
            outs.append(self._scratch / str(self._count))
            outs[-1].mkdir()
            job["out"] = str(outs[-1])
        self._send(json.dumps(jobs))
        return [Child(pid, out) for pid, out in zip(self._line(), outs, strict=True)]

    def wait(self, children: list[Child]) -> None:
        self._send("")
        for child, end in zip(children, self._line(), strict=True):
            child.end = end

    def run(self, *jobs: dict[str, Any]) -> list[Child]:
        children = self.begin(*jobs)
        self.wait(children)
        return children

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _line(self) -> list[int]:
        assert self._process.stdout is not None
        found = json.loads(self._process.stdout.readline())
        assert isinstance(found, list)
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@dataclass
class Target:
    """A models folder for one model, and the model's bytes."""

    root: Path
    model: Model
    data: bytes = field(repr=False)
    block: int

    @property
    def folder(self) -> Folder:
        return Folder.at(self.root)

    @property
    def path(self) -> Path:
        return self.folder.path(self.model.name)

    @property
    def partial(self) -> Path:
        return self.folder.partial(self.model.name, self.model.sha256)

    @property
    def journal(self) -> Path:
        return self.folder.journal(self.model.name, self.model.sha256)

    def job(self, **more: Any) -> dict[str, Any]:
        return {"root": str(self.root), "models": [self.model.model_dump(mode="json")], "block": self.block, **more}

    def assert_never_wrong(self) -> bool:
        """Check that at the final path is nothing, or exactly the right bytes; return whether it exists."""
        try:
            found = self.path.read_bytes()
        except FileNotFoundError:
            return False
        assert hashlib.sha256(found).hexdigest() == self.model.sha256
        return True

    def marked(self) -> set[int]:
        """Return the blocks that the journal marks, and check their bytes."""
        try:
            marks = self.journal.read_bytes()[_PAGE:]
            held = self.partial.read_bytes()
        except FileNotFoundError:
            return set()
        if len(held) != len(self.data):
            assert not any(marks)
            return set()
        found = {block for block, mark in enumerate(marks) if mark == 1}
        for block in found:
            part = slice(block * self.block, (block + 1) * self.block)
            assert held[part] == self.data[part]
        return found

    def bytes_of(self, blocks: set[int]) -> int:
        return sum(min((b + 1) * self.block, len(self.data)) - b * self.block for b in blocks)

    def repeated_requests(self, requests: list[Record], had: set[int]) -> list[Record]:
        """Return the requests for blocks that were complete before."""
        found = []
        for record in requests:
            if record.span is not None and record.status == 206:
                start, length = record.span
                if had & set(range(start // self.block, -(-(start + length) // self.block))):
                    found.append(record)
        return found

    def assert_complete(self) -> None:
        """Check that it is complete, with a receipt, and nothing else is left."""
        assert self.assert_never_wrong()
        assert receipts.is_valid(self.folder, self.model.name, self.model.sha256)
        assert self.leftovers() == []

    def leftovers(self) -> list[str]:
        """Return the files that are neither the model nor one of gesso's small records."""
        records = {self.folder.lock(self.model.name), self.folder.receipt(self.model.name), self.path}
        return sorted(
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if not path.is_dir() and path not in records and not path.name.startswith(".new-")
        )

    def clear(self) -> None:
        for path in sorted(self.root.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def wait_until(condition: Any) -> None:
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.005)


@contextlib.contextmanager
def start_forks(scratch: Path) -> Iterator[Forks]:
    """Start the forking process."""
    forks = Forks(scratch)
    try:
        yield forks
    finally:
        forks.close()
