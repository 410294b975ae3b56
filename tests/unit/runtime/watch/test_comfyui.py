"""The ComfyUI watch: starts, responses, missing node classes, and workflows published to Krita at each start."""

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
from gesso.runtime.watch.comfyui import ComfyuiWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record


@dataclass
class World:
    """A simulated ComfyUI with its supervisor."""

    programs: dict[str, Program] | None = field(default_factory=dict)
    answers: bool = True
    lacks: tuple[str, ...] = ()
    refuses: bool = False
    now: float = 100.0
    started: list[str] = field(default_factory=list)
    published: int = 0
    revived: int = 0
    requests: int = 0

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

    def get_json(path: str, **_: Any) -> Any:
        world.requests += 1
        if not world.answers:
            raise CheckError("ComfyUI does not answer")
        return {"devices": []}

    def publish(*_: Any) -> None:
        if world.refuses:
            raise CheckError("not published to Krita: 500", "look at the log")
        world.published += 1

    monkeypatch.setattr(comfy, "get_json", get_json)
    monkeypatch.setattr(comfy, "missing_classes", lambda *_, **__: world.lacks)
    monkeypatch.setattr(krita, "publish", publish)
    return world


@pytest.fixture
def watch(world: World, layout: Layout, record: Callable[..., Record]) -> ComfyuiWatch:
    def revive() -> None:
        world.revived += 1

    return ComfyuiWatch(layout, record(), FakeSupervisor(world), revive, clock=lambda: world.now)


def _poll(world: World, watch: ComfyuiWatch, times: int = 1, seconds: float = 0.5) -> None:
    for _ in range(times):
        world.now += seconds
        watch.poll()


def test_up_and_published_once(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    _poll(world, watch, 20)
    assert (watch.seen.up, watch.seen.missing, watch.seen.published) == (True, (), True)
    assert (watch.seen.starts, watch.seen.idle_starts, world.published) == (1, 0, 1)
    assert world.requests < 6  # once it is up, its process is watched, and requests are rare


def test_published_again_after_each_restart(world: World, watch: ComfyuiWatch) -> None:
    for pid in (7, 8, 9):
        world.comfyui(pid)
        _poll(world, watch, 3)
    assert (world.published, watch.seen.starts) == (3, 3)
    assert [text for _, text in watch.errors] == ["ComfyUI was restarted"]


def test_between_two_runs_it_is_down(world: World, watch: ComfyuiWatch) -> None:
    world.comfyui(7)
    _poll(world, watch)
    world.comfyui(0, "BACKOFF")
    world.answers = False
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
    world.answers = False
    _poll(world, watch, 2, seconds=6)
    assert watch.seen.up
    _poll(world, watch, 1, seconds=6)
    assert not watch.seen.up


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
    _poll(world, watch, 1, seconds=11)
    assert watch.seen.published
    assert world.published == 1


def test_failed_programs_are_restarted_at_a_bounded_rate(world: World, watch: ComfyuiWatch) -> None:
    world.programs = {"gate": Program("gate", "FATAL", 0, 0)}
    _poll(world, watch, 1200)  # ten minutes
    assert set(world.started) == {"gate"}
    assert 10 < len(world.started) < 16  # 5, 10, 20, 40, then every 60 s
    world.programs = {"gate": Program("gate", "RUNNING", 7, 1)}
    _poll(world, watch)
    world.programs = {"gate": Program("gate", "FATAL", 0, 2)}
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


def test_a_refusal_is_read(watch: ComfyuiWatch, layout: Layout) -> None:
    assert watch.refused() is None
    layout.run.mkdir()
    path = comfy.fault_file(layout)
    path.write_text(json.dumps({"why": "guard: no", "next": "fresh"}))
    assert watch.refused() == Trouble("guard: no", "fresh")
    path.write_text("[]")
    assert watch.refused() is None


def test_notes_of_the_last_start_are_read(watch: ComfyuiWatch, layout: Layout) -> None:
    assert watch.notes() == ()
    layout.run.mkdir()
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
