"""The ComfyUI watch: starts, responses, missing node classes, its port, and workflows published at each start."""

from __future__ import annotations

import json
import os
import socketserver
import threading
import time
import xmlrpc.client
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.runtime.gate import caddy
from gesso.runtime.services import comfyui as comfy
from gesso.runtime.services import krita, ports, public_port
from gesso.runtime.services.ports import Listener
from gesso.runtime.services.public_port import Answer
from gesso.runtime.services.supervisord import Program, Supervisor
from gesso.runtime.state.state import Trouble
from gesso.runtime.watch import comfyui as watching
from gesso.runtime.watch.comfyui import ComfyuiWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record


SILENT = Trouble("the gate does not listen on port 8188", "`gesso logs gate` shows why")
OWN, FOREIGN = Listener("127.0.0.1", 77), Listener("127.0.0.1", 99)


@dataclass
class World:
    """A simulated ComfyUI with its supervisor and its gate."""

    programs: dict[str, Program] | None = field(default_factory=dict)
    answers: bool = True
    gate: bool = True
    lacks: tuple[str, ...] = ()
    refuses: bool = False
    now: float = 100.0
    queue: int = 0
    sockets: tuple[Listener, ...] = (OWN,)
    own: set[int] = field(default_factory=lambda: {77})  # the sockets that ComfyUI holds
    started: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    tries: int = 0  # to publish
    published: int = 0
    revived: int = 0
    requests: list[str] = field(default_factory=list)  # to ComfyUI's own port
    asked: list[str] = field(default_factory=list)  # through the public port
    lists: int = 0  # how often the supervisor was asked
    lookups: int = 0  # how often a process's sockets were

    def comfyui(self, pid: int, state: str = "RUNNING") -> None:
        self.programs = {"comfyui": Program("comfyui", state, pid, 1000 + pid)}


class FakeSupervisor(Supervisor):
    world: World

    def __init__(self, world: World) -> None:
        object.__setattr__(self, "world", world)

    def programs(self) -> dict[str, Program]:
        self.world.lists += 1
        if self.world.programs is None:
            raise CheckError("supervisord does not answer")
        return self.world.programs

    def start(self, name: str) -> None:
        self.world.started.append(name)

    def stop(self, name: str) -> None:
        self.world.ended.append(f"stop {name}")

    def terminate(self, name: str) -> None:
        self.world.ended.append(f"terminate {name}")

    def kill(self, name: str) -> None:
        self.world.ended.append(f"kill {name}")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()

    def ask(_: Any, path: str, **__: Any) -> Answer:
        world.asked.append(path)
        if not world.gate:
            raise CheckError(SILENT.why, SILENT.next_step)
        queue = {"exec_info": {"queue_remaining": world.queue}}
        return Answer(200, queue) if world.answers else Answer(502)

    def get_json(path: str, **_: Any) -> Any:
        world.requests.append(path)
        if not world.answers:
            raise CheckError("ComfyUI does not answer")
        return {"devices": []} if path == "/system_stats" else {"exec_info": {"queue_remaining": world.queue}}

    def publish(*_: Any) -> None:
        world.tries += 1
        if world.refuses:
            raise CheckError("not published to Krita: 500", "look at the log")
        world.published += 1

    def is_held_by(pid: int, listener: Listener) -> bool:
        world.lookups += 1
        assert pid
        return listener.inode in world.own

    monkeypatch.setattr(public_port, "ask", ask)
    monkeypatch.setattr(ports, "listeners", lambda _: world.sockets)
    monkeypatch.setattr(ports, "is_held_by", is_held_by)
    monkeypatch.setattr(ports, "holder", lambda _: "`nc -l` (process 9)")
    monkeypatch.setattr(comfy, "get_json", get_json)
    monkeypatch.setattr(comfy, "missing_classes", lambda *_, **__: world.lacks)
    monkeypatch.setattr(krita, "publish", publish)
    return world


@pytest.fixture
def watch(world: World, layout: Layout, record: Callable[..., Record]) -> ComfyuiWatch:
    caddy.configure(layout, {})

    def revive() -> None:
        world.revived += 1

    return ComfyuiWatch(layout, record(), FakeSupervisor(world), revive, clock=lambda: world.now)


def _poll(world: World, watch: ComfyuiWatch, times: int = 1, seconds: float = 0.5) -> None:
    for _ in range(times):
        world.now += seconds
        watch.poll()


def _port_trouble(watch: ComfyuiWatch) -> Trouble | None:
    return watch.seen.port_trouble


def _wake(watch: ComfyuiWatch) -> None:
    """Do what the loop does when the end of a process wakes it."""
    watch._programs_at = -1e9


def test_up_and_published_once(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    _poll(world, watch, 20)
    assert (watch.seen.up, watch.seen.missing, watch.seen.published) == (True, (), True)
    assert (watch.seen.starts, watch.seen.idle_starts, world.published) == (1, 0, 1)
    assert world.requests == ["/system_stats"]  # people read it rarely
    assert world.asked == ["/prompt"] * 20


def test_published_again_after_each_restart(world: World, watch: ComfyuiWatch) -> None:
    for pid in (7, 8, 9):
        world.comfyui(pid)
        _wake(watch)
        _poll(world, watch, 3)
    assert (world.published, watch.seen.starts) == (3, 3)
    assert [text for _, text in watch.errors] == ["ComfyUI was restarted"]


def test_between_two_runs_it_is_down(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    _poll(world, watch)
    world.comfyui(0, "BACKOFF")
    world.answers = False
    _wake(watch)
    _poll(world, watch)
    assert (watch.seen.up, watch.seen.published, watch.seen.missing) == (False, False, None)


def test_failed_starts_are_counted(world: World, watch: ComfyuiWatch) -> None:
    world.answers = False
    for pid in (7, 8, 9):
        world.comfyui(pid)
        _poll(world, watch, 2)
    assert watch.seen.idle_starts == 3
    world.answers = True
    _poll(world, watch)
    assert watch.seen.idle_starts == 0


def test_a_missed_response_does_not_mean_down(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    _poll(world, watch)
    for _ in range(2):  # each silence has its own time
        world.answers = False
        _poll(world, watch, 20, seconds=1)  # since the first of these
        assert watch.seen.up
        world.answers = True
        _poll(world, watch)
    world.answers = False
    _poll(world, watch, 21, seconds=1)
    assert not watch.seen.up
    assert watch.seen.published


def test_without_its_classes_nothing_is_published(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    world.lacks = ("IPAdapter",)
    _poll(world, watch, 3)
    assert (watch.seen.missing, world.published) == (("IPAdapter",), 0)
    assert "ComfyUI lacks IPAdapter" in [text for _, text in watch.errors]


def test_refused_publishing_is_retried(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    world.refuses = True
    _poll(world, watch, 5)
    assert watch.seen.publish_trouble == Trouble("not published to Krita: 500", "look at the log")
    world.refuses = False
    _poll(world, watch, 14)
    assert world.tries == 1
    _poll(world, watch, 2)  # after ten seconds
    assert watch.seen.published
    assert (world.tries, world.published) == (2, 1)


def test_failed_programs_are_restarted_at_a_bounded_rate(world: World, watch: ComfyuiWatch) -> None:
    world.programs = {"gate": Program("gate", "FATAL", 0, 0)}
    _poll(world, watch, 1200)  # ten minutes
    assert set(world.started) == {"gate"}
    assert 10 < len(world.started) < 16  # 5, 10, 20, 40, then every 60 s
    world.programs = {"gate": Program("gate", "RUNNING", 7, 1)}
    _poll(world, watch)
    world.programs = {"gate": Program("gate", "FATAL", 0, 2)}
    _wake(watch)
    before = len(world.started)
    _poll(world, watch, 12)
    assert len(world.started) == before + 1


def test_without_a_supervisor_it_is_revived_once(world: World, watch: ComfyuiWatch) -> None:
    world.programs = None
    _poll(world, watch, 50)
    assert world.revived == 1
    assert watch.seen.up  # ComfyUI itself is still queried


def test_the_loop_survives_an_error_in_a_round(
    world: World, watch: ComfyuiWatch, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    stop = threading.Event()
    rounds = []

    def poll() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            stop.set()
        raise BrokenPipeError("nobody listens")

    monkeypatch.setattr(watch, "poll", poll)
    monkeypatch.setattr("gesso.runtime.watch.comfyui.POLL_INTERVAL", 0.01)
    watch.run(stop)
    assert len(rounds) == 3
    assert [text for _, text in watch.errors] == ["gesso: internal error: BrokenPipeError: nobody listens"]


# --- how often


def _waits(watch: ComfyuiWatch, monkeypatch: pytest.MonkeyPatch) -> tuple[float, list[int]]:
    """Return how long the loop would sleep after one round, and the processes that would wake it."""
    stop, found = threading.Event(), list[tuple[float, list[int]]]()

    def wait(seconds: float, pids: Iterable[int] = ()) -> bool:
        found.append((seconds, list(pids)))
        stop.set()
        return False

    with monkeypatch.context() as patch:
        patch.setattr(watch.wakeup, "wait", wait)
        watch.run(stop)
    return found[0]


def test_it_polls_rarely_once_everything_is_up(
    world: World, watch: ComfyuiWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Program("gate", "RUNNING", 6, 1)
    world.programs = {"comfyui": Program("comfyui", "RUNNING", 7, 1), "gate": gate}
    assert _waits(watch, monkeypatch) == (10.0, [os.getppid(), 7, 6])
    fast: tuple[float, list[int]] = (0.5, [])
    world.answers = False
    _poll(world, watch)
    _poll(world, watch, 1, seconds=20)  # ComfyUI is down
    assert _waits(watch, monkeypatch) == fast
    world.answers = True
    assert _waits(watch, monkeypatch)[0] == 10.0
    world.gate = False
    assert _waits(watch, monkeypatch) == fast
    world.gate = True
    world.programs["gate"] = Program("gate", "STARTING", 6, 1)
    world.now += 30
    assert _waits(watch, monkeypatch) == fast
    world.programs = {}
    assert _waits(watch, monkeypatch) == fast


def test_it_polls_fast_until_the_workflows_are_published(
    world: World, watch: ComfyuiWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.comfyui(7)
    world.refuses = True
    assert _waits(watch, monkeypatch)[0] == 0.5
    world.refuses = False
    world.now += 10
    assert _waits(watch, monkeypatch)[0] == 10.0


def test_the_supervisor_is_asked_rarely_once_everything_is_up(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(0, "STARTING")
    _poll(world, watch, 4)
    assert world.lists == 4
    world.comfyui(7)
    _poll(world, watch)
    assert world.lists == 5
    _poll(world, watch, 59)
    assert world.lists == 5
    _poll(world, watch)  # after 30 s
    assert world.lists == 6
    world.gate = False
    _poll(world, watch, 3)
    assert world.lists == 8  # the first of them noticed


def test_the_end_of_a_process_has_the_supervisor_asked(
    world: World, watch: ComfyuiWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.comfyui(7)
    _poll(world, watch)
    stop, woken = threading.Event(), iter([False, True, False])

    def wait(*_: Any) -> bool:
        lists.append(world.lists)
        if len(lists) == 3:
            stop.set()
        return next(woken)

    lists: list[int] = []
    monkeypatch.setattr(watch.wakeup, "wait", wait)
    watch.run(stop)
    assert lists == [1, 1, 2]


def test_memory_and_versions_are_asked_for_rarely(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    _poll(world, watch, 120)
    assert world.requests == ["/system_stats"]
    _poll(world, watch)
    assert world.requests == ["/system_stats"] * 2
    assert watch.seen.stats == {"devices": []}
    world.comfyui(8)  # another run may have other versions
    _wake(watch)
    _poll(world, watch)
    assert len(world.requests) == 3


def test_stats_of_another_form_are_none(world: World, watch: ComfyuiWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfy, "get_json", lambda *_, **__: ["x"])
    world.comfyui(7)
    _poll(world, watch)
    assert (watch.seen.stats, watch.seen.up) == ({}, True)


def test_the_queue_is_known(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    world.queue = 3
    _poll(world, watch)
    assert watch.seen.queue == 3
    world.gate, world.queue = False, 2  # then by its own port
    _poll(world, watch)
    assert (watch.seen.queue, world.requests[-1]) == (2, "/prompt")
    world.comfyui(8)
    world.answers = False
    _wake(watch)
    _poll(world, watch)
    assert watch.seen.queue == 0


def test_without_the_gate_comfyui_is_asked_by_its_own_port(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    world.gate = False
    _poll(world, watch, 8)
    assert (watch.seen.up, watch.seen.published, watch.gate.up) == (True, True, False)
    assert watch.gate.trouble == SILENT
    assert set(world.requests) == {"/prompt", "/system_stats"}


def test_an_error_in_json_is_no_answer(world: World, watch: ComfyuiWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    world.comfyui(7)
    _poll(world, watch)
    monkeypatch.setattr(public_port, "ask", lambda *_, **__: Answer(500, {"error": "out of memory"}))
    world.answers = False
    _poll(world, watch, 21, seconds=1)
    assert not watch.seen.up


def test_a_silent_gate_is_repaired(world: World, watch: ComfyuiWatch, layout: Layout) -> None:
    world.programs = {"gate": Program("gate", "RUNNING", 6, 1)}
    world.gate = False
    (layout.run / "Caddyfile").write_bytes(b"\xff")
    _poll(world, watch, 6)
    assert world.ended == []  # it may be starting
    _poll(world, watch)
    assert world.ended == ["terminate gate"]
    assert caddy.is_configured(layout, {})
    _poll(world, watch, 24)
    assert world.ended == ["terminate gate", "kill gate"]


def test_a_gate_that_was_given_up_is_repaired_before_its_start(
    world: World, watch: ComfyuiWatch, layout: Layout
) -> None:
    world.programs = {"gate": Program("gate", "FATAL", 0, 0)}
    (layout.run / "Caddyfile").write_bytes(b"\xff")
    _poll(world, watch)
    assert not caddy.is_configured(layout, {})
    _poll(world, watch, 1, seconds=5)  # before three seconds of silence were counted
    assert world.started == ["gate"]
    assert caddy.is_configured(layout, {})


def test_a_new_gate_must_identify_itself(world: World, watch: ComfyuiWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    identified: list[bool] = []

    def ask(*_: Any, identify: bool, **__: Any) -> Answer:
        identified.append(identify)
        return Answer(200, {})

    monkeypatch.setattr(public_port, "ask", ask)
    for start in (1, 2):
        world.programs = {"gate": Program("gate", "RUNNING", 6, start)}
        _wake(watch)
        _poll(world, watch, 2)
    assert identified == [True, False, True, False]


def test_a_pending_restart_is_done_once_no_heal_runs(
    world: World, watch: ComfyuiWatch, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.comfyui(0, "STOPPED")
    _poll(world, watch)
    assert world.started == []  # a person may have stopped it
    layout.pending_restart.touch()
    with monkeypatch.context() as patch:
        patch.setattr("gesso.runtime.locks.is_held", lambda _: True)
        _poll(world, watch)
    assert world.started == []
    _poll(world, watch)
    assert world.started == ["comfyui"]


# --- ComfyUI's own port


def test_a_port_of_another_program_is_a_trouble_after_a_moment(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    world.sockets = (FOREIGN,)
    _poll(world, watch, 6)
    assert _port_trouble(watch) is None  # a socket of the run before may last
    _poll(world, watch)
    assert _port_trouble(watch) == Trouble(
        "port 18188 is held by `nc -l` (process 9)",
        "end that program, or run this container in a network namespace of its own",
    )
    assert not watch.seen.up  # whatever answers there is not ComfyUI
    assert (world.ended, watch.refused()) == ([], None)
    world.sockets = (OWN,)
    _poll(world, watch)
    assert (_port_trouble(watch), watch.seen.up) == (None, True)
    world.sockets = (FOREIGN,)
    _poll(world, watch, 2)
    assert _port_trouble(watch) is None, "each has its own moment"


def test_comfyui_that_waits_for_its_port_has_no_process(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(0, "BACKOFF")
    _poll(world, watch, 7)
    assert _port_trouble(watch) is not None


def test_without_a_supervisor_nobody_knows_whose_port_it_is(world: World, watch: ComfyuiWatch) -> None:
    world.programs = None
    world.sockets = (FOREIGN,)
    _poll(world, watch, 10)
    assert _port_trouble(watch) is None
    assert watch.seen.up


def test_a_free_port_is_no_trouble(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    world.sockets, world.answers = (), False
    _poll(world, watch, 10)
    assert (_port_trouble(watch), world.lookups) == (None, 0)


def test_one_of_several_sockets_is_enough(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    world.sockets, world.own = (Listener("127.0.0.1", 99), Listener("::1", 77)), {77}
    _poll(world, watch, 10)
    assert _port_trouble(watch) is None


def test_a_socket_is_looked_up_once(world: World, watch: ComfyuiWatch) -> None:
    """That takes a process, where ComfyUI is another user's."""
    world.comfyui(7)
    _poll(world, watch, 10)
    assert world.lookups == 1
    world.sockets, world.own = (Listener("127.0.0.1", 78),), {78}
    _poll(world, watch, 10)
    assert world.lookups == 2
    world.comfyui(8)
    _wake(watch)
    _poll(world, watch, 10)
    assert world.lookups == 3
    world.own = set()
    world.comfyui(9)
    _wake(watch)
    _poll(world, watch, 2)
    assert world.lookups == 5  # while it is not its own, each time


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.10"])
def test_comfyui_that_is_open_to_the_network_is_stopped(
    world: World, watch: ComfyuiWatch, layout: Layout, address: str
) -> None:
    world.comfyui(7)
    world.sockets = (OWN, Listener(address, 78))
    _poll(world, watch)
    assert world.ended == ["stop comfyui"]  # at once
    said = Trouble(
        f"ComfyUI listens on {address}, so that port 18188 is open to the network without the token; it was stopped",
        "`gesso logs comfyui` shows what it was started with",
    )
    assert watch.refused() == said
    _poll(world, watch, 6)
    assert _port_trouble(watch) == said
    assert not watch.seen.up
    world.comfyui(0, "STOPPED")
    world.sockets, world.answers = (), False
    _wake(watch)
    _poll(world, watch)
    assert (_port_trouble(watch), watch.seen.up) == (None, False)
    assert watch.refused() == said  # until its next start
    assert world.started == []


def test_a_supervisor_that_refuses_to_stop_it(world: World, watch: ComfyuiWatch) -> None:
    def stop(_: str) -> None:
        raise CheckError("supervisord does not answer")

    object.__setattr__(watch._supervisor, "stop", stop)
    world.comfyui(7)
    world.sockets = (Listener("0.0.0.0", 77),)
    _poll(world, watch, 8)
    assert _port_trouble(watch) is not None


def test_a_restart_in_one_process_publishes_again(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    _poll(world, watch, 3)
    assert world.published == 1
    world.sockets = ()  # between the two
    _poll(world, watch)
    assert world.published == 1
    world.sockets, world.own = (Listener("127.0.0.1", 78),), {78}
    _poll(world, watch, 3)
    assert (world.published, watch.seen.published, watch.seen.starts) == (2, True, 1)
    assert [text for _, text in watch.errors] == ["ComfyUI restarted itself"]


def test_a_slow_restart_in_one_process_publishes_again(world: World, watch: ComfyuiWatch) -> None:
    """Its node packs may take longer to import than the silence that counts as down."""
    world.comfyui(7)
    _poll(world, watch)
    world.sockets, world.answers = (), False
    _poll(world, watch, 60, seconds=1)
    assert not watch.seen.up
    world.sockets, world.own, world.answers = (Listener("127.0.0.1", 78),), {78}, True
    _poll(world, watch, 2)
    assert (world.published, watch.seen.published) == (2, True)


def test_a_socket_that_is_there_before_it_responds_is_no_restart(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    world.answers = False
    _poll(world, watch)
    world.sockets, world.own = (Listener("127.0.0.1", 78),), {78}
    _poll(world, watch)
    assert list(watch.errors) == []


# --- the loop


@contextmanager
def _running(watch: ComfyuiWatch, world: World) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=watch.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        watch.wakeup.poke()
        thread.join()


def test_refresh_waits_for_a_whole_round(world: World, watch: ComfyuiWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "POLL_INTERVAL", 60.0)
    begun, go_on = threading.Event(), threading.Event()
    rounds: list[int] = []

    def poll() -> None:
        queue = watch.seen.queue  # what this round sees
        begun.set()
        assert go_on.wait(10)
        time.sleep(0.05)
        rounds.append(queue)

    monkeypatch.setattr(watch, "poll", poll)
    with _running(watch, world):
        assert begun.wait(10)
        watch.seen.queue = 5  # after that round began
        threading.Timer(0.05, go_on.set).start()
        watch.refresh()
        assert rounds[-1] == 5
        assert len(rounds) in {2, 3}
        watch.seen.queue = 6
        watch.refresh()
        assert rounds[-1] == 6


def test_refresh_asks_the_supervisor(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    _poll(world, watch)
    assert watch.settled
    assert world.lists == 1
    with _running(watch, world):
        started = time.monotonic()
        watch.refresh()
        assert world.lists > 1
        assert time.monotonic() - started < 5  # it does not wait for the settled interval


def test_refresh_does_not_wait_for_ever(watch: ComfyuiWatch) -> None:
    started = time.monotonic()
    watch.refresh(0.05)  # no loop runs
    assert 0.04 < time.monotonic() - started < 5


def test_a_round_that_failed_is_one(world: World, watch: ComfyuiWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    def poll() -> None:
        raise BrokenPipeError("nobody listens")

    monkeypatch.setattr(watch, "poll", poll)
    with _running(watch, world):
        started = time.monotonic()
        watch.refresh(10)
        assert time.monotonic() - started < 5


def test_the_age_is_that_of_the_last_round(world: World, watch: ComfyuiWatch) -> None:
    world.now += 7
    assert watch.age() == 7
    _poll(world, watch)
    world.now += 3
    assert watch.age() == 3


def test_a_refusal_is_read(watch: ComfyuiWatch, layout: Layout) -> None:
    assert watch.refused() is None
    path = comfy.fault_file(layout)
    path.write_text(json.dumps({"why": "guard: no", "next": "fresh"}))
    assert watch.refused() == Trouble("guard: no", "fresh")
    path.write_text("[]")
    assert watch.refused() is None


def test_notes_of_the_last_start_are_read(watch: ComfyuiWatch, layout: Layout) -> None:
    assert watch.notes() == ()
    comfy.notes_file(layout).write_text('["torch is 1, the lock says 2"]')
    assert watch.notes() == ("torch is 1, the lock says 2",)
    comfy.notes_file(layout).write_text("7")
    assert watch.notes() == ()


# --- the client of supervisord


@pytest.fixture
def socket_path(tmp_path: Path) -> Iterator[tuple[Path, list[Any]]]:
    calls: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            args, method = xmlrpc.client.loads(body)
            calls.append((method, args))
            row = {"name": "gate", "statename": "RUNNING", "pid": 7, "start": 9, "spawnerr": ""}
            result: Any = [row] if "All" in str(method) else True
            if args[:1] == ("unknown",):
                text = xmlrpc.client.dumps(xmlrpc.client.Fault(10, "BAD_NAME"))
            else:
                text = xmlrpc.client.dumps((result,), methodresponse=True)
            self.send_response(200 if args[:1] != ("sick",) else 500)
            self.end_headers()
            self.wfile.write(text.encode() if args[:1] != ("odd",) else b"<html>")

        def address_string(self) -> str:
            return "here"

        def log_message(self, *_: Any) -> None:
            pass

    path = tmp_path / "s.sock"
    with socketserver.UnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield path, calls
        server.shutdown()
        thread.join()


def test_supervisord_lists_and_starts_programs(socket_path: tuple[Path, list[Any]]) -> None:
    path, calls = socket_path
    supervisor = Supervisor(path)
    assert supervisor.programs() == {"gate": Program("gate", "RUNNING", 7, 9)}
    supervisor.start("gate")
    assert calls[1] == ("supervisor.startProcess", ("instance:gate", False))


@pytest.mark.parametrize("name", ["unknown", "sick", "odd"])
def test_supervisord_refuses(socket_path: tuple[Path, list[Any]], name: str) -> None:
    with pytest.raises(CheckError, match="supervisord"):
        Supervisor(socket_path[0]).start(name)


def test_no_supervisord(tmp_path: Path) -> None:
    with pytest.raises(CheckError, match="does not answer"):
        Supervisor(tmp_path / "none").programs()
