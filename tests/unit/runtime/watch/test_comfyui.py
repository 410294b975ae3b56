"""ComfyUI watched: its lives, its answers, what it lacks, and that Krita gets its workflows at each start."""

from __future__ import annotations

import json
import socketserver
import threading
import xmlrpc.client
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.runtime.services import comfyui as comfy
from gesso.runtime.services import krita
from gesso.runtime.services.supervisord import Program, Supervisor
from gesso.runtime.state.state import Trouble
from gesso.runtime.watch.comfyui import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record


@dataclass
class World:
    """ComfyUI and its supervisor, as they seem from outside."""

    programs: dict[str, Program] | None = field(default_factory=dict)
    answers: bool = True
    lacks: tuple[str, ...] = ()
    refuses: bool = False
    now: float = 100.0
    started: list[str] = field(default_factory=list)
    published: int = 0
    revived: int = 0
    asked: int = 0

    def comfyui(self, pid: int, state: str = "RUNNING") -> None:
        self.programs = {"comfyui": Program("comfyui", state, pid, 1000 + pid)}


class FakeSupervisor(Supervisor):
    def __init__(self, world: World) -> None:
        object.__setattr__(self, "world", world)

    def programs(self) -> dict[str, Program]:
        world: World = self.world  # type: ignore[attr-defined]
        if world.programs is None:
            raise CheckError("supervisord does not answer")
        return world.programs

    def start(self, name: str) -> None:
        self.world.started.append(name)  # type: ignore[attr-defined]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()

    def ask(path: str, **_: Any) -> Any:
        world.asked += 1
        if not world.answers:
            raise CheckError("ComfyUI does not answer")
        return {"devices": []}

    def publish(*_: Any) -> None:
        if world.refuses:
            raise CheckError("not published to Krita: 500", "look at the log")
        world.published += 1

    monkeypatch.setattr(comfy, "ask", ask)
    monkeypatch.setattr(comfy, "missing", lambda *_, **__: world.lacks)
    monkeypatch.setattr(krita, "publish", publish)
    return world


@pytest.fixture
def watch(world: World, layout: Layout, record: Callable[..., Record]) -> Watch:
    def revive() -> None:
        world.revived += 1

    return Watch(layout, record(), FakeSupervisor(world), revive, clock=lambda: world.now)


def _look(world: World, watch: Watch, times: int = 1, seconds: float = 0.5) -> None:
    for _ in range(times):
        world.now += seconds
        watch.look()


def test_up_and_published_once(world: World, watch: Watch) -> None:
    world.comfyui(7)
    _look(world, watch, 20)
    assert (watch.seen.up, watch.seen.missing, watch.seen.published) == (True, (), True)
    assert (watch.seen.starts, watch.seen.idle_starts, world.published) == (1, 0, 1)
    assert world.asked < 6  # once it is up, its process is watched, and it is asked now and then


def test_published_again_after_each_restart(world: World, watch: Watch) -> None:
    for pid in (7, 8, 9):
        world.comfyui(pid)
        _look(world, watch, 3)
    assert (world.published, watch.seen.starts) == (3, 3)
    assert [text for _, text in watch.errors] == ["ComfyUI was started again"]


def test_between_two_lives_it_is_down(world: World, watch: Watch) -> None:
    world.comfyui(7)
    _look(world, watch)
    world.comfyui(0, "BACKOFF")
    world.answers = False
    _look(world, watch)
    assert (watch.seen.up, watch.seen.published, watch.seen.missing) == (False, False, None)


def test_starts_that_come_to_nothing_are_counted(world: World, watch: Watch) -> None:
    world.answers = False
    for pid in (7, 8, 9):
        world.comfyui(pid)
        _look(world, watch, 2)
    assert watch.seen.idle_starts == 3
    world.answers = True
    _look(world, watch)
    assert watch.seen.idle_starts == 0


def test_one_answer_may_stay_out_while_it_works(world: World, watch: Watch) -> None:
    world.comfyui(7)
    _look(world, watch)
    world.answers = False
    _look(world, watch, 2, seconds=6)
    assert watch.seen.up
    _look(world, watch, 1, seconds=6)
    assert not watch.seen.up


def test_without_its_classes_nothing_is_published(world: World, watch: Watch) -> None:
    world.comfyui(7)
    world.lacks = ("IPAdapter",)
    _look(world, watch, 3)
    assert (watch.seen.missing, world.published) == (("IPAdapter",), 0)
    assert "ComfyUI lacks IPAdapter" in [text for _, text in watch.errors]


def test_publishing_that_is_refused_is_tried_again(world: World, watch: Watch) -> None:
    world.comfyui(7)
    world.refuses = True
    _look(world, watch, 5)
    assert watch.seen.publish_trouble == Trouble("not published to Krita: 500", "look at the log")
    world.refuses = False
    _look(world, watch, 1, seconds=11)
    assert watch.seen.published
    assert world.published == 1


def test_what_was_given_up_is_started_again_at_a_bounded_rate(world: World, watch: Watch) -> None:
    world.programs = {"gate": Program("gate", "FATAL", 0, 0)}
    _look(world, watch, 1200)  # ten minutes
    assert set(world.started) == {"gate"}
    assert 10 < len(world.started) < 16  # 5, 10, 20, 40, then every 60 s
    world.programs = {"gate": Program("gate", "RUNNING", 7, 1)}
    _look(world, watch)
    world.programs = {"gate": Program("gate", "FATAL", 0, 2)}
    before = len(world.started)
    _look(world, watch, 12)
    assert len(world.started) == before + 1


def test_without_a_supervisor_it_is_revived_once(world: World, watch: Watch) -> None:
    world.programs = None
    _look(world, watch, 50)
    assert world.revived == 1
    assert watch.seen.up  # ComfyUI itself is still asked


def test_the_loop_outlives_what_goes_wrong_in_a_round(
    world: World, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    stop = threading.Event()
    rounds = []

    def look() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            stop.set()
        raise BrokenPipeError("nobody listens")

    monkeypatch.setattr(watch, "look", look)
    monkeypatch.setattr("gesso.runtime.watch.comfyui.STEP", 0.01)
    watch.run(stop)
    assert len(rounds) == 3
    assert [text for _, text in watch.errors] == ["gesso itself: BrokenPipeError: nobody listens"]


def test_a_refusal_is_read(watch: Watch, layout: Layout) -> None:
    assert watch.refused() is None
    layout.run.mkdir()
    path = comfy.fault_file(layout)
    path.write_text(json.dumps({"why": "guard: no", "next": "fresh"}))
    assert watch.refused() == Trouble("guard: no", "fresh")
    path.write_text("[]")
    assert watch.refused() is None


def test_notes_of_the_last_start_are_read(watch: Watch, layout: Layout) -> None:
    assert watch.notes() == ()
    layout.run.mkdir()
    comfy.notes_file(layout).write_text('["torch is 1, the lock says 2"]')
    assert watch.notes() == ("torch is 1, the lock says 2",)
    comfy.notes_file(layout).write_text("7")
    assert watch.notes() == ()


# --- the door to supervisord


@pytest.fixture
def socket_path(tmp_path: Path) -> Iterator[tuple[Path, list[Any]]]:
    calls: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            words, method = xmlrpc.client.loads(body)
            calls.append((method, words))
            row = {"name": "gate", "statename": "RUNNING", "pid": 7, "start": 9, "spawnerr": ""}
            given: Any = [row] if "All" in str(method) else True
            if words[:1] == ("unknown",):
                text = xmlrpc.client.dumps(xmlrpc.client.Fault(10, "BAD_NAME"))
            else:
                text = xmlrpc.client.dumps((given,), methodresponse=True)
            self.send_response(200 if words[:1] != ("sick",) else 500)
            self.end_headers()
            self.wfile.write(text.encode() if words[:1] != ("odd",) else b"<html>")

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


def test_supervisord_is_asked_and_told(socket_path: tuple[Path, list[Any]]) -> None:
    path, calls = socket_path
    supervisor = Supervisor(path)
    assert supervisor.programs() == {"gate": Program("gate", "RUNNING", 7, 9)}
    supervisor.start("gate")
    assert calls[1] == ("supervisor.startProcess", ("gate", False))


@pytest.mark.parametrize("name", ["unknown", "sick", "odd"])
def test_supervisord_refuses(socket_path: tuple[Path, list[Any]], name: str) -> None:
    with pytest.raises(CheckError, match="supervisord"):
        Supervisor(socket_path[0]).start(name)


def test_no_supervisord(tmp_path: Path) -> None:
    with pytest.raises(CheckError, match="does not answer"):
        Supervisor(tmp_path / "none").programs()
