"""Several processes in one folder: the work is done once, a dying one is replaced, none corrupts another's files."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from mirror import Mirror, behaviour

from gesso.models import receipts
from gesso.models.download import finalize, journal
from gesso.models.download.hashing import Follower
from gesso.models.download.model_download import Stopped
from gesso.models.fetch import fetch
from gesso.models.folder import Folder
from gesso.models.net import limits

from .fetching import NAME, Bench, model_of, options, vae
from .rounds import Forks, Target, start_forks, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gesso.models.events import Event

BLOCK = 64 << 10
DATA = vae(24 * BLOCK + 1000)
OTHER = vae(24 * BLOCK + 1000, seed=2)
FILE, SECOND = "/vae.safetensors", "/other.safetensors"


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with start_forks(tmp_path_factory.mktemp("forks")) as found:
        yield found


@pytest.fixture
def at(mirror: Mirror, tmp_path: Path) -> Target:
    mirror.files[FILE], mirror.files[SECOND] = DATA, OTHER
    return Target(tmp_path / "models", model_of(DATA, mirror.url(FILE)), DATA, BLOCK)


@pytest.fixture
def other(at: Target, mirror: Mirror) -> Target:
    """Another lock's file under the same name."""
    return Target(at.root, model_of(OTHER, mirror.url(SECOND)), OTHER, BLOCK)


@pytest.mark.parametrize("processes", [2, 4])
def test_the_work_is_done_once(forks: Forks, mirror: Mirror, at: Target, processes: int) -> None:
    mirror.behave(FILE, behaviour("slow", rate=2_000_000))
    for _ in range(3):
        children = forks.run(*(at.job() for _ in range(processes)))
        assert [child.end for child in children] == [0] * processes
        assert sorted(child.outcome["state"] for child in children) == ["fetched"] + ["there"] * (processes - 1)
        assert sum(child.received for child in children) == len(DATA)
        at.assert_complete()
        at.clear()


def test_a_killed_process_is_replaced_and_its_blocks_are_kept(forks: Forks, mirror: Mirror, at: Target) -> None:
    at.block = BLOCK // 4  # at this rate the whole file takes long, and a block does not
    mirror.behave(FILE, behaviour("slow", rate=64_000))
    children = forks.begin(at.job(), at.job())
    wait_until(lambda: any(child.has("waiting") for child in children) and len(at.marked()) > 2)
    [holder] = [child for child in children if child.has("started")]
    [heir] = [child for child in children if child is not holder]
    assert heir.has("waiting")
    assert not heir.has("started")
    holder.kill()
    mirror.forget()
    forks.wait(children)
    assert (holder.end, heir.end) == (-signal.SIGKILL, 0)
    assert heir.outcome["state"] == "fetched"
    assert heir.received < len(DATA)
    assert heir.received + holder.received <= len(DATA) + 5 * at.block
    at.assert_complete()


def test_one_after_the_other_dies(forks: Forks, mirror: Mirror, at: Target) -> None:
    at.block = BLOCK // 4  # at this rate the whole file takes long, and a block does not
    mirror.behave(FILE, behaviour("slow", rate=64_000))
    children = forks.begin(*(at.job() for _ in range(4)))
    living = list(children)
    for _ in range(3):
        had = len(at.marked())
        wait_until(lambda had=had: len(at.marked()) > had)
        [holder] = [child for child in living if child.has("started")]
        holder.kill()
        living.remove(holder)
        wait_until(lambda: any(child.has("started") for child in living))
    mirror.forget()
    forks.wait(children)
    assert sorted(child.end or 0 for child in children) == [-9, -9, -9, 0]
    assert sum(child.received for child in children) <= len(DATA) + 3 * 5 * at.block
    at.assert_complete()


def test_two_locks_with_different_bytes_under_one_name(forks: Forks, at: Target, other: Target) -> None:
    """Each gets its bytes, one after the other; the earlier file is quarantined."""
    children = forks.run(at.job(), other.job())
    assert [(child.end, child.outcome["state"]) for child in children] == [(0, "fetched")] * 2
    assert at.path.read_bytes() in {DATA, OTHER}
    [kept] = at.folder.quarantine.iterdir()
    assert {at.path.read_bytes(), kept.read_bytes()} == {DATA, OTHER}
    assert [sum(receipts.is_valid(p.folder, NAME, p.model.sha256) for p in (at, other))] == [1]
    assert [path.name for path in at.path.parent.iterdir()] == [at.path.name]


def test_a_partial_file_of_another_lock_is_not_resumed(
    forks: Forks, mirror: Mirror, at: Target, other: Target
) -> None:  # fmt: skip
    mirror.behave(SECOND, behaviour("slow", rate=200_000))
    children = forks.begin(other.job())
    wait_until(lambda: len(other.marked()) > 2)
    children[0].kill()
    forks.wait(children)
    kept = other.marked()
    # Nor is it resumed if somebody gives it our name.
    at.partial.write_bytes(other.partial.read_bytes())
    at.journal.write_bytes(other.journal.read_bytes())
    [child] = forks.run(at.job())
    assert child.end == 0
    assert child.received == len(DATA)
    assert at.assert_never_wrong()
    assert other.marked() == kept
    mirror.forget()
    [child] = forks.run(other.job())
    assert child.received == len(OTHER) - other.bytes_of(kept)


# ── waiting ──


@pytest.fixture
def held(at: Target) -> Iterator[FileLock]:
    """Another process holds the lock."""
    path = at.folder.lock(NAME)
    path.parent.mkdir(parents=True)
    with FileLock(path, thread_local=False) as lock:
        yield lock


@pytest.mark.parametrize("at_path", ["nothing", "a bad file"])
def test_a_waiting_process_reports_it_and_can_be_stopped(at: Target, held: FileLock, at_path: str) -> None:
    if at_path == "a bad file":
        at.path.parent.mkdir(parents=True)
        at.path.write_bytes(b"<html>no</html>")
    stop = threading.Event()
    seen: list[Event] = []

    def on_event(event: Event) -> None:
        seen.append(event)
        if event.kind == "waiting":
            stop.set()

    with pytest.raises(Stopped):
        fetch([at.model], at.folder, env={}, on_event=on_event, options=options(), stop=stop)
    [event] = [event for event in seen if event.kind == "waiting"]
    assert event.message == "another process is working on it"
    assert not at.path.exists() or at_path == "a bad file"


def test_a_waiting_process_finds_the_work_done(at: Target, held: FileLock, mirror: Mirror) -> None:
    def on_event(event: Event) -> None:
        if event.kind == "waiting":
            at.path.parent.mkdir(parents=True, exist_ok=True)
            at.path.write_bytes(DATA)
            at.journal.touch()  # the process that did it was killed after the rename
            held.release()

    [outcome] = fetch([at.model], at.folder, env={}, on_event=on_event, options=options())
    assert outcome.state == "there"
    assert mirror.requests == []
    at.assert_complete()


def test_a_fetch_of_a_right_file_waits_for_no_lock(at: Target, held: FileLock) -> None:
    at.path.parent.mkdir(parents=True)
    at.path.write_bytes(DATA)
    at.journal.touch()  # a killed run left it; it would be removed if no other process held the lock
    [outcome] = fetch([at.model], at.folder, env={}, options=options())
    assert outcome.state == "there"
    held.release()
    fetch([at.model], at.folder, env={}, options=options())
    at.assert_complete()


# ── no file locks ──


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_without_file_locks_it_is_still_fetched(
    at: Target, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:  # fmt: skip
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    bench = Bench(at.root)
    bench.assert_fetched(bench.fetch(at.model), DATA)
    at.assert_complete()


def test_if_the_library_has_no_locks_it_is_still_fetched(at: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("gesso.models.download.locks.FileLock.acquire", refuse)
    bench = Bench(at.root)
    bench.assert_fetched(bench.fetch(at.model), DATA)
    at.assert_complete()


def test_without_locks_several_processes_corrupt_nothing(forks: Forks, mirror: Mirror, at: Target) -> None:
    """Each may take over another's file; the other one stops, and reports why. Visible files are right at any time."""
    mirror.behave(FILE, behaviour("slow", rate=4_000_000))
    bad = Target(at.root, model_of(DATA, mirror.url("/flipped")), DATA, BLOCK)
    mirror.files["/flipped"] = DATA
    mirror.behave("/flipped", behaviour("flip", at=len(DATA) // 2), behaviour("slow", rate=4_000_000))
    for _ in range(12):
        children = forks.begin(*(p.job(no_locks=True) for p in (at, bad, at)))
        states = [child.out / "outcomes" for child in children]
        wait_until(lambda states=states: at.assert_never_wrong() or all(path.exists() for path in states))
        forks.wait(children)
        at.assert_never_wrong()
        for child in children:
            row = child.outcome
            assert row["state"] in {"there", "fetched"} or row["why"] in {"changed-under-us", "wrong-hash"}, row
        [last] = forks.run(at.job(no_locks=True))
        assert last.outcome["state"] in {"there", "fetched"}
        assert at.assert_never_wrong()
        at.clear()


def partial_of(at: Target) -> journal.Partial:
    return journal.Partial(at.partial, at.journal, sha256=at.model.sha256, size=len(at.data))


def fill(partial: journal.Partial, data: bytes) -> None:
    for block in range(partial.blocks):
        first, end = partial.bounds(block)
        partial.write(first, memoryview(data)[first:end])
        partial.mark(block)


def test_a_process_that_lost_its_partial_file_stops_writing(at: Target) -> None:
    first = partial_of(at)
    first.write(0, memoryview(DATA)[: limits.BLOCK])
    first.mark(0)
    second = partial_of(at)
    assert second.resumed == 1
    attempts: list[Callable[[], None]] = [
        lambda: first.write(limits.BLOCK, memoryview(b"x")), lambda: first.mark(1), first.settle,
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(OSError, match="taken over") as caught:
            attempt()
        assert caught.value.errno == errno.EBUSY
    assert os.pread(second.fd, 1, limits.BLOCK) == b"\0"
    first.close()
    fill(second, DATA)
    second.settle()
    second.discard()


def test_a_late_process_does_not_disturb_a_rename(at: Target) -> None:
    first = partial_of(at)
    fill(first, DATA)
    first.settle()
    second = partial_of(at)  # at this moment
    finalize.finalize(at.folder, at.model, first.path, first.fd)
    assert second.missing() == []
    assert Follower(second).digest() == at.model.sha256
    second.settle()
    with pytest.raises(OSError, match="removed") as caught:
        finalize.finalize(at.folder, at.model, second.path, second.fd)
    assert caught.value.errno == errno.EBUSY
    first.close()
    second.close()
    at.assert_complete()


def test_a_replaced_partial_file_is_not_made_visible(at: Target) -> None:
    partial = partial_of(at)
    fill(partial, DATA)
    at.partial.unlink()
    at.partial.write_bytes(OTHER)
    with pytest.raises(OSError, match="removed"):
        finalize.finalize(at.folder, at.model, partial.path, partial.fd)
    partial.close()
    assert not at.path.exists()


# ── changes by others ──


def test_a_file_that_appears_meanwhile_is_quarantined(at: Target) -> None:
    bench = Bench(at.root)
    seen: list[str] = []

    def on_event(event: Event) -> None:
        if event.kind == "started":
            at.path.write_bytes(b"theirs")
        seen.append(event.kind)

    [outcome] = fetch([at.model], at.folder, env={}, on_event=on_event, options=options())
    assert outcome.state == "fetched"
    assert at.path.read_bytes() == DATA
    [kept] = at.folder.quarantine.iterdir()
    assert kept.read_bytes() == b"theirs"
    assert receipts.is_valid(at.folder, NAME, at.model.sha256)
    assert bench.fetch(at.model).state == "there"


@pytest.mark.parametrize("how", ["in place", "in place, times put back", "replaced, times put back"])
def test_a_file_that_is_changed_after_it_was_verified_is_found(at: Target, how: str) -> None:
    bench = Bench(at.root)
    bench.assert_fetched(bench.fetch(at.model), DATA)
    stat = at.path.stat()
    wrong = DATA[:-1] + bytes([DATA[-1] ^ 1])
    if how.startswith("replaced"):
        at.path.unlink()
    at.path.write_bytes(wrong)
    if how.endswith("back"):
        os.utime(at.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    [outcome] = fetch([at.model], at.folder, env={}, on_event=bench.events.append, options=options())
    assert outcome.state == "fetched"
    [kept] = at.folder.quarantine.iterdir()
    assert kept.read_bytes() == wrong
    assert ".wrong-hash." in kept.name
    assert at.assert_never_wrong()


def test_a_partial_file_that_is_changed_meanwhile_is_never_made_visible(at: Target, mirror: Mirror) -> None:
    """The hash covers the file's content: a byte written by others is found, and everything is fetched again."""
    first = partial_of(at)
    fill(first, DATA)
    os.pwrite(first.fd, b"?", len(DATA) - 1)
    first.close()
    bench = Bench(at.root)
    bench.assert_fetched(bench.fetch(at.model), DATA)
    assert bench.of("retrying")


# ── clocks ──


def test_a_clock_that_jumps_changes_nothing(at: Target, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    jumps = iter([2e9, 0.0, -1e9, 1e10] * 100_000)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    partial = partial_of(at)
    partial.write(0, memoryview(DATA)[: limits.BLOCK])
    partial.mark(0)
    partial.close()
    bench = Bench(at.root)
    bench.assert_fetched(bench.fetch(at.model), DATA)
    assert sum(record.sent for record in mirror.requests) == len(DATA) - limits.BLOCK
    assert bench.fetch(at.model).note == "its receipt is valid"
    os.utime(at.path, (0, 0))  # then it must be hashed, and nothing is fetched
    mirror.clear_log()
    assert bench.fetch(at.model).note == "its sha256 is right"
    os.utime(at.path, (4e9, 4e9))
    assert bench.fetch(at.model).state == "there"
    assert bench.fetch(at.model).note == "its receipt is valid"
    assert mirror.requests == []
    assert Folder.at(at.root) == at.folder
