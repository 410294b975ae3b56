"""Ctrl-C and SIGTERM of `gesso fetch` as a command: it ends at once, reports it, and the next run resumes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from mirror import Mirror, behaviour

from gesso.models.download import journal
from gesso.models.download.model_download import Stopped
from gesso.models.fetch import fetch
from gesso.models.net import limits

from .fetching import NAME, model_of, vae
from .rounds import PATIENCE, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
BLOCK = limits.BLOCK
DATA = vae(64 * BLOCK + 1000)  # at the rates below the whole file takes long, and a block does not
FILE = "/vae.safetensors"
# It must end long before any of its timeouts: a stall (30 s and more), a Retry-After (50 s).
SOON = 25.0


class Running:
    """`gesso fetch` in its own process."""

    def __init__(self, at: Target, *more: str) -> None:
        record = at.root.parent / "build.json"
        record.write_text(json.dumps({"models": [at.model.model_dump(mode="json")]}), encoding="utf-8")
        self.at, self._more = at, more
        self._out, self._err = at.root.parent / "out", at.root.parent / "err"
        command = [
            sys.executable,
            "-m",
            "gesso.cli",
            "fetch",
            "--record",
            str(record),
            "--models",
            str(at.root),
            *more,
        ]
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )

    @property
    def out(self) -> str:
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8")

    def until(self, what: Callable[[], object]) -> None:
        late = time.monotonic() + PATIENCE
        while not what():
            assert self.process.poll() is None, self.err
            assert time.monotonic() < late, self.err
            time.sleep(0.01)

    def end(self, number: int) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(SOON)


@pytest.fixture
def at(mirror: Mirror, tmp_path: Path) -> Target:
    mirror.files[FILE] = DATA
    return Target(tmp_path / "models", model_of(DATA, mirror.url(FILE)), DATA, BLOCK)


@pytest.fixture
def start(at: Target) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def make(*more: str) -> Running:
        running.append(Running(at, *more))
        return running[-1]

    yield make
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def interrupted(running: Running) -> None:
    assert running.end(signal.SIGINT) == 130
    assert "gesso: interrupted; finished work is kept" in running.err
    assert "Traceback" not in running.err
    assert not running.at.assert_never_wrong()


def goes_on(at: Target, mirror: Mirror, start: Callable[..., Running]) -> None:
    """Run it again, undisturbed."""
    had = at.marked()
    mirror.forget()
    mirror.clear_log()
    running = start("--json")
    assert running.process.wait(PATIENCE) == 0, running.err
    [row] = json.loads(running.out)["models"]
    assert row["received"] == len(DATA) - at.bytes_of(had)
    assert at.repeated_requests(mirror.requests, had) == []
    at.assert_complete()


def events(running: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in running.out.split("\n")[:-1]]


@pytest.mark.parametrize("more", [[], ["--json"], ["--events"]], ids=["plain", "json", "events"])
def test_in_the_middle(mirror: Mirror, at: Target, start: Callable[..., Running], more: list[str]) -> None:
    mirror.behave(FILE, behaviour("slow", rate=800_000))
    running = start(*more)
    running.until(at.marked)
    interrupted(running)
    assert at.marked()
    if more == ["--json"]:
        assert running.out == ""
    if more == ["--events"]:
        assert events(running)[0]["kind"] == "planned"  # each line is complete
    goes_on(at, mirror, start)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("stall", {"at": 1000, "not_first": True}),  # some connections are open, and receive nothing more
        ("stall", {"at": 0}),
        ("stall-before-status", {}),
        ("trickle", {}),
        ("503-once-seconds", {"times": None, "retry": 50}),  # a retry waits
        ("429-once-seconds", {"times": None, "retry": 50, "not_first": True}),
    ],
    ids=["stalled", "stalled at once", "no answer", "trickle", "before a retry", "before a retry, in the middle"],
)
def test_while_it_waits_for_a_source(
    mirror: Mirror, at: Target, start: Callable[..., Running], name: str, options: dict[str, Any]
) -> None:
    mirror.behave(FILE, behaviour(name, **options))
    running = start()
    running.until(lambda: any(name in record.behaviours for record in mirror.requests))
    interrupted(running)
    goes_on(at, mirror, start)


def test_while_another_process_holds_the_lock(mirror: Mirror, at: Target, start: Callable[..., Running]) -> None:
    path = at.folder.lock(NAME)
    path.parent.mkdir(parents=True)
    with FileLock(path):
        running = start("--events")
        running.until(lambda: any(event["kind"] == "waiting" for event in events(running)))
        interrupted(running)
    assert mirror.requests == []
    goes_on(at, mirror, start)


def test_while_it_reads_a_pipe(at: Target, mirror: Mirror, start: Callable[..., Running]) -> None:
    """A pipe at the final path: waiting for its bytes would never end."""
    at.path.parent.mkdir(parents=True)
    os.mkfifo(at.path)
    running = start()
    assert running.process.wait(PATIENCE) == 0, running.err
    assert at.assert_never_wrong()
    assert ".unreadable." in next(at.folder.quarantine.iterdir()).name


def hole(at: Target) -> int:
    """Create a sparse file that takes too long to hash; return its size."""
    size = 12_000_000_000
    at.model = at.model.model_copy(update={"size": size, "allow_pickle": "for the tests", "name": "vae/big.pt"})
    at.path.parent.mkdir(parents=True)
    with at.path.open("wb") as file:
        file.write(b"nothing in particular")
        file.truncate(size)
    return size


def test_while_an_existing_file_is_hashed(at: Target, mirror: Mirror, start: Callable[..., Running]) -> None:
    size = hole(at)
    running = start("--events")
    running.until(lambda: any(event["kind"] == "checking" for event in events(running)))
    assert running.end(signal.SIGINT) == 130
    assert "Traceback" not in running.err
    assert at.path.stat().st_size == size  # it was not found bad, so it was not moved
    assert mirror.requests == []


def test_a_page_or_a_program_stops_it_there_too(at: Target, mirror: Mirror) -> None:
    size, stop = hole(at), threading.Event()
    with pytest.raises(Stopped):
        fetch([at.model], at.folder, env={}, on_event=lambda _: stop.set(), stop=stop)
    assert at.path.stat().st_size == size
    assert mirror.requests == []


def test_while_a_partial_file_is_hashed(at: Target, mirror: Mirror, start: Callable[..., Running]) -> None:
    size = 12_000_000_000
    at.model = at.model.model_copy(update={"size": size, "allow_pickle": "for the tests", "name": "vae/big.pt"})
    at.partial.parent.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "set_aside", os.ftruncate)
        partial = journal.Partial(at.partial, at.journal, sha256=at.model.sha256, size=size)
    for block in range(partial.blocks):
        partial.mark(block)
    partial.close()
    running = start("--events")
    running.until(lambda: any(event["kind"] == "progress" for event in events(running)))
    assert running.end(signal.SIGINT) == 130
    assert "Traceback" not in running.err
    assert at.partial.stat().st_size == size
    assert b"\0" not in at.journal.read_bytes()[4096:]
    assert mirror.requests == []


def test_twice(mirror: Mirror, at: Target, start: Callable[..., Running]) -> None:
    """A second Ctrl-C, if it does not end at once, may arrive while the interpreter exits."""
    mirror.behave(FILE, behaviour("slow", rate=800_000))
    running = start()
    running.until(at.marked)
    running.process.send_signal(signal.SIGINT)
    assert running.end(signal.SIGINT) in {130, -signal.SIGINT}
    assert not at.assert_never_wrong()
    goes_on(at, mirror, start)


def test_sigterm(mirror: Mirror, at: Target, start: Callable[..., Running]) -> None:
    """The signal of a supervisor or an engine: it ends the process like any kill."""
    mirror.behave(FILE, behaviour("slow", rate=800_000))
    running = start()
    running.until(at.marked)
    assert running.end(signal.SIGTERM) == -signal.SIGTERM
    assert "Traceback" not in running.err
    assert at.marked()
    goes_on(at, mirror, start)


def test_verify(at: Target, mirror: Mirror) -> None:
    hole(at)
    record = at.root.parent / "build.json"
    record.write_text(json.dumps({"models": [at.model.model_dump(mode="json")]}), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "gesso.cli",
        "verify",
        "--full",
        "--record",
        str(record),
        "--models",
        str(at.root),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    late = time.monotonic() + PATIENCE
    while not _holds(process.pid, at.path):
        assert process.poll() is None
        assert time.monotonic() < late
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SOON)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err


def _holds(pid: int, path: Path) -> bool:
    """Return whether a process has a file open."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if entry.readlink() == path:
                return True
        except OSError:
            continue
    return False
