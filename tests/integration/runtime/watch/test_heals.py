"""The agent's view of heals: real processes, and state that is read from their files only."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gesso import proc
from gesso.errors import CheckError
from gesso.runtime import locks
from gesso.runtime.heal import reports
from gesso.runtime.prepare import orphans
from gesso.runtime.watch.heals import REQUESTED, Healer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gesso.runtime.layout import Layout
    from tests.unit.runtime.conftest import FakeHeal

WRONG = {"kind": "python", "name": "sqlalchemy", "found": "1.4.54", "remedy": "install 2.0.51", "restart": True}
OLD = "20260101-000000-aaaaaa"


@pytest.fixture
def healer(layout: Layout, fake_heal: FakeHeal) -> Healer:
    return Healer(layout, {"SUPERVISOR_ENABLED": "1"})


def _until(condition: Callable[[], Any]) -> Any:
    while not (found := condition()):
        time.sleep(0.01)
    return found


def _pid_of(name: str) -> int:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and name.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                return int(entry.name)
    pytest.fail("no process of that heal")


def _events(healer: Healer, name: str) -> list[str]:
    return [event["event"] for _, event in healer.events(name, 0)]


def test_names_sort_by_time() -> None:
    times = [1_800_000_000 + n / 1000 for n in range(0, 3000, 7)]
    names = [reports.new_id(now) for now in times]
    assert names == sorted(names)
    assert all(map(reports.is_id, names))
    assert len({reports.new_id(times[0]) for _ in range(20)}) > 15


def test_a_heal_from_its_start_to_its_report(healer: Healer, fake_heal: FakeHeal) -> None:
    fake_heal.finds(WRONG, hold="planned")
    started = healer.start(dry_run=True, by="page")
    assert started.new
    assert reports.is_id(started.name)
    found = healer.details(started.name)
    assert found is not None
    assert (found["state"], found["by"], found["dry_run"], found["ended"]) == ("running", "page", True, None)
    assert found["begun"] == pytest.approx(time.time(), abs=60)
    _until(lambda: "found" in _events(healer, started.name))
    assert healer.running() == started.name
    assert healer.latest() == healer.details(started.name)
    fake_heal.go_on()
    _until(lambda: healer.state(started.name) == "done")
    assert _events(healer, started.name)[:2] == [REQUESTED, "begun"]
    report = healer.details(started.name)
    assert report is not None
    assert report["damages"][0]["outcome"] == "planned"
    assert (report["state"], report["code"]) == ("done", 1)
    assert [row["id"] for row in healer.summaries()] == [started.name]
    assert "damages" not in healer.summaries()[0]


def test_our_child_is_running_until_it_has_ended(healer: Healer, fake_heal: FakeHeal, tmp_path: Path) -> None:
    """Also during exec, while it has no arguments: here it never has any."""
    (tmp_path / "proc").mkdir()
    healer_without_proc = Healer(fake_heal.layout, {}, tmp_path / "proc")
    fake_heal.finds(WRONG, hold="begun")
    name = healer_without_proc.start(dry_run=True, by="api").name
    assert healer_without_proc.state(name) == "running"
    fake_heal.go_on()
    _until(lambda: healer_without_proc.state(name) == "done")


def test_only_one_at_a_time(healer: Healer, layout: Layout, fake_heal: FakeHeal) -> None:
    fake_heal.finds(WRONG, hold="begun")
    first = healer.start(dry_run=False, by="api")
    assert healer.start(dry_run=True, by="api").name == first.name  # before it has the lock
    _until(lambda: locks.is_held(layout.heal_lock))
    for each in (healer, Healer(layout, {})):  # the second: a restarted agent
        second = each.start(dry_run=True, by="api")
        assert (second.name, second.new) == (first.name, False)
    fake_heal.go_on()
    _until(lambda: healer.state(first.name) == "done")
    assert reports.names(layout.reports) == [first.name]
    assert healer.start(dry_run=False, by="api").new


def test_a_heal_started_elsewhere_blocks_another(layout: Layout, healer: Healer) -> None:
    layout.state.mkdir(exist_ok=True)
    with layout.heal_lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        nameless = healer.start(dry_run=False, by="api")
        assert (nameless.name, nameless.new) == ("", False)
        journal = reports.Journal(layout.reports, OLD)
        journal.emit("begun", id=OLD, by="ssh", arch="sdxl", dry_run=False)
        assert healer.start(dry_run=False, by="api").name == OLD
        found = healer.details(OLD)
        assert found is not None
        assert (found["state"], found["by"]) == ("running", "ssh")
        # A heal that was requested but never began does not hold the lock.
        reports.Journal(layout.reports, "20260101-000001-bbbbbb").emit(REQUESTED, by="page", dry_run=True)
        assert healer.running() == OLD
        assert healer.state("20260101-000001-bbbbbb") == "interrupted"


def test_a_finished_heal_may_hold_the_lock_a_moment_longer(
    layout: Layout, healer: Healer, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    answers = iter([True, True, False])
    monkeypatch.setattr(locks, "is_held", lambda _: next(answers))
    assert healer.start(dry_run=True, by="api").new


def test_a_killed_heal_is_interrupted(layout: Layout, healer: Healer, fake_heal: FakeHeal) -> None:
    fake_heal.finds(WRONG, hold="repairing")
    name = healer.start(dry_run=False, by="api").name
    _until(lambda: "planned" in _events(healer, name))
    pid = _pid_of(name)
    os.kill(pid, signal.SIGKILL)
    _until(lambda: healer.state(name) == "interrupted")
    _until(lambda: not Path(f"/proc/{pid}").exists())  # no zombie is left
    found = healer.details(name)
    assert found is not None
    assert (found["ok"], found["ended"]) == (False, None)
    assert "interrupted" in found["summary"]
    assert healer.latest() == found


def test_a_heal_that_never_began_refers_to_its_log(layout: Layout, healer: Healer, fake_heal: FakeHeal) -> None:
    fake_heal.program.write_text("#!/bin/sh\necho no such command; exit 2\n")
    name = healer.start(dry_run=False, by="api").name
    _until(lambda: healer.state(name) == "interrupted")
    found = healer.details(name)
    assert found is not None
    assert "gesso logs heal" in found["summary"]
    assert "no such command" in (layout.logs / "heal.log").read_text()


def test_it_outlives_the_supervisor_and_the_agent(
    layout: Layout, healer: Healer, fake_heal: FakeHeal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its own session, and without the variable by which a boot finds processes to end."""
    monkeypatch.setattr(orphans, "COMFY_USER", -1)  # other processes of this machine may have that user
    run = layout.run
    fake_heal.program.write_text(f"#!/bin/sh\nps -o sid= -p $$ > {run}/sid; env > {run}/e; mv {run}/e {run}/env\n")
    layout.run.mkdir()
    mark = f"unix://{layout.run}/supervisor.sock"
    os.environ["SUPERVISOR_SERVER_URL"] = mark
    try:
        name = Healer(layout, dict(os.environ)).start(dry_run=False, by="api").name
    finally:
        del os.environ["SUPERVISOR_SERVER_URL"]
    _until((run / "env").is_file)
    _until(lambda: healer.state(name) == "interrupted")
    assert int((layout.run / "sid").read_text()) != os.getsid(0)
    assert "SUPERVISOR_SERVER_URL" not in (layout.run / "env").read_text()
    assert orphans.find_orphans(layout) == []


def test_a_heal_that_cannot_be_started_is_an_error(healer: Healer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(proc, "detach", full)
    with pytest.raises(CheckError, match="No space left") as raised:
        healer.start(dry_run=False, by="api")
    assert raised.value.next_step


@pytest.mark.parametrize("name", ["", "x", "../../etc/passwd", f"{OLD}\n", f"../{OLD}", OLD])
def test_unknown_heals(healer: Healer, name: str) -> None:
    assert healer.state(name) is None
    assert healer.details(name) is None
    assert healer.latest() is None


def _journal(layout: Layout, *events: dict[str, Any]) -> list[int]:
    layout.reports.mkdir(parents=True, exist_ok=True)
    path = layout.reports / f"{OLD}.jsonl"
    ends = []
    for event in events:
        with path.open("a") as file:
            file.write(f"{json.dumps(event)}\n")
        ends.append(path.stat().st_size)
    return ends


def test_events_from_an_offset_on(layout: Layout, healer: Healer) -> None:
    ends = _journal(layout, {"event": "a"}, {"event": "b"}, {"event": "c"})
    rows = list(zip(ends, "abc", strict=True))
    for offset, left in ((0, rows), (ends[0], rows[1:]), (ends[2], [])):
        assert [(end, event["event"]) for end, event in healer.events(OLD, offset)] == left
    for invalid in (1, ends[0] - 1, ends[2] + 1, 10**12):  # within a line, or beyond the end: from the beginning
        assert [end for end, _ in healer.events(OLD, invalid)] == ends
    with (layout.reports / f"{OLD}.jsonl").open("a") as file:
        file.write('no json\n[1]\n{"event": "d"}\n{"event": "not whole')
    assert [event["event"] for _, event in healer.events(OLD, ends[2])] == ["d"]


def test_a_long_journal_comes_in_parts(layout: Layout, healer: Healer) -> None:
    _journal(layout, *({"event": "x", "n": n, "pad": "é" * (n % 97)} for n in range(400)))
    for step in (1, 50, 4096):
        seen, offset = [], 0
        while found := healer.events(OLD, offset, step):
            seen += [event["n"] for _, event in found]
            offset = found[-1][0]
        assert seen == list(range(400)), step


@pytest.fixture(autouse=True)
def release_the_heal(fake_heal: FakeHeal) -> Iterator[None]:
    yield
    fake_heal.go_on()
