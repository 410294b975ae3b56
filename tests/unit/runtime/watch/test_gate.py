"""The watch of the gate: when it has a trouble, and when it is repaired, ended, or killed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.runtime.gate import caddy, tokens
from gesso.runtime.services import public_port
from gesso.runtime.services.public_port import Answer
from gesso.runtime.services.supervisord import Program, Supervisor
from gesso.runtime.state.state import Trouble
from gesso.runtime.watch.gate import GateWatch

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.runtime.layout import Layout

RUNNING = Program("gate", "RUNNING", 7, 100)
SILENT = Trouble("the gate does not listen on port 8188", "`gesso logs gate` shows why")


@dataclass
class World:
    """The public port, the supervisor, and the clock."""

    answers: bool = True
    now: float = 100.0
    asked: list[tuple[str, bool, bool]] = field(default_factory=list)  # path, identify, secure
    ended: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refuses: bool = False


class FakeSupervisor(Supervisor):
    def __init__(self, world: World) -> None:
        object.__setattr__(self, "world", world)

    def _end(self, how: str, name: str) -> None:
        world: World = self.world  # type: ignore[attr-defined]
        world.ended.append(f"{how} {name}")
        if world.refuses:
            raise CheckError("supervisord: NOT_RUNNING")

    def terminate(self, name: str) -> None:
        self._end("terminate", name)

    def kill(self, name: str) -> None:
        self._end("kill", name)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()

    def ask(_: Any, path: str, *, identify: bool, secure: bool) -> Answer:
        world.asked.append((path, identify, secure))
        if not world.answers:
            raise CheckError(SILENT.why, SILENT.next_step)
        return Answer(200, {})

    monkeypatch.setattr(public_port, "ask", ask)
    return world


@pytest.fixture
def watch(world: World, layout: Layout) -> GateWatch:
    caddy.configure(layout, {})
    return GateWatch(layout, {}, FakeSupervisor(world), world.notes.append, lambda: world.now)


def _is_up(watch: GateWatch) -> bool:
    return watch.up


def _trouble(watch: GateWatch) -> Trouble | None:
    return watch.trouble


def _silent(world: World, watch: GateWatch, seconds: float) -> None:
    """Ask now, and once more after `seconds`, without an answer."""
    world.answers = False
    assert watch.ask("/prompt") is None
    world.now += seconds
    assert watch.ask("/prompt") is None


def test_it_must_identify_itself_once(world: World, watch: GateWatch) -> None:
    assert not _is_up(watch)
    for _ in range(3):
        assert watch.ask("/prompt") == Answer(200, {})
        assert (_is_up(watch), _trouble(watch)) == (True, None)
    assert world.asked == [("/prompt", True, False), ("/prompt", False, False), ("/prompt", False, False)]


def test_after_a_missed_answer_it_must_identify_itself_again(world: World, watch: GateWatch) -> None:
    watch.ask("/prompt")
    world.answers = False
    assert watch.ask("/prompt") is None
    assert not _is_up(watch)
    world.answers = True
    watch.ask("/prompt")
    assert [identify for _, identify, _ in world.asked] == [True, False, True]


def test_a_new_process_must_identify_itself_again(world: World, watch: GateWatch) -> None:
    watch.record(RUNNING)
    watch.ask("/prompt")
    watch.record(RUNNING)
    assert _is_up(watch)
    watch.record(Program("gate", "RUNNING", 7, 101))  # the same PID, started later
    assert not _is_up(watch)
    watch.ask("/prompt")
    watch.record(None)
    assert not _is_up(watch)
    assert [identify for _, identify, _ in world.asked] == [True, True]


def test_with_a_certificate_it_is_asked_by_tls(
    world: World, watch: GateWatch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(caddy, "certificate", lambda *_: (tmp_path, tmp_path))
    watch.ask("/prompt")
    assert world.asked == [("/prompt", True, True)]


def test_it_may_be_starting(world: World, watch: GateWatch) -> None:
    _silent(world, watch, 2.9)
    assert _trouble(watch) is None
    world.now += 0.1
    watch.ask("/prompt")
    assert _trouble(watch) == SILENT
    world.answers = True
    watch.ask("/prompt")
    assert (_is_up(watch), _trouble(watch)) == (True, None)
    _silent(world, watch, 2.9)
    assert _trouble(watch) is None, "each silence has its own grace"


def test_a_damaged_certificate_is_a_trouble(world: World, watch: GateWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise CheckError("GESSO_TLS_CERT: no such file", "give one")

    monkeypatch.setattr(caddy, "certificate", fail)
    _silent(world, watch, 3)
    assert _trouble(watch) == Trouble("GESSO_TLS_CERT: no such file", "give one")
    watch.trouble = None
    watch.repair(RUNNING)
    assert _trouble(watch) == Trouble("GESSO_TLS_CERT: no such file", "give one")
    assert (world.ended, world.asked) == ([], [])


# --- repair


@pytest.mark.parametrize("content", [b"\xff\xfe{", b"", b":8188\n", None], ids=["not text", "empty", "open", "gone"])
def test_a_damaged_configuration_is_rewritten_and_read_again(
    world: World, watch: GateWatch, layout: Layout, content: bytes | None
) -> None:
    path = layout.run / "Caddyfile"
    before, token, identity = path.read_bytes(), caddy.active_token(layout, {}), tokens.instance_id(layout)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    watch.repair(RUNNING)
    assert path.read_bytes() == before
    assert (caddy.active_token(layout, {}), tokens.instance_id(layout)) == (token, identity)
    assert world.ended == ["terminate gate"]
    assert world.notes == ["the gate's configuration was changed; it was rewritten"]
    watch.repair(RUNNING)
    assert len(world.ended) == len(world.notes) == 1


def test_an_intact_configuration_is_left_alone(world: World, watch: GateWatch, layout: Layout) -> None:
    before = (layout.run / "Caddyfile").stat().st_ino
    watch.repair(RUNNING)
    assert (world.ended, world.notes) == ([], [])
    assert (layout.run / "Caddyfile").stat().st_ino == before


@pytest.mark.parametrize("state", ["STARTING", "BACKOFF", "FATAL", "STOPPED", "EXITED", None])
def test_only_a_running_gate_is_ended(world: World, watch: GateWatch, layout: Layout, state: str | None) -> None:
    program = None if state is None else Program("gate", state, 0, 100)
    (layout.run / "Caddyfile").write_bytes(b"\xff")
    watch.repair(program)
    assert caddy.is_configured(layout, {})
    _silent(world, watch, 20)
    watch.repair(program)
    assert world.ended == []


def test_a_frozen_gate_is_killed(world: World, watch: GateWatch) -> None:
    _silent(world, watch, 14.9)
    watch.repair(RUNNING)
    assert world.ended == []
    world.now += 0.1
    watch.ask("/prompt")
    watch.repair(RUNNING)
    assert world.ended == ["kill gate"]
    assert world.notes == ["the gate did not answer; it was restarted"]
    world.now += 14.9  # the next one gets the same time
    watch.ask("/prompt")
    watch.repair(RUNNING)
    assert len(world.ended) == 1
    world.now += 0.1
    watch.repair(RUNNING)
    assert len(world.ended) == 2
    world.answers = True
    watch.ask("/prompt")
    world.now += 60
    watch.repair(RUNNING)
    assert len(world.ended) == 2


def test_what_the_supervisor_refuses_is_tried_again_later(world: World, watch: GateWatch, layout: Layout) -> None:
    world.refuses = True
    (layout.run / "Caddyfile").write_bytes(b"\xff")
    watch.repair(RUNNING)
    assert (world.ended, watch.trouble) == (["terminate gate"], None)


def test_what_cannot_be_rewritten_is_a_trouble(
    world: World, watch: GateWatch, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise CheckError("/run/gesso: No space left on device", "make room on the disk")

    (layout.run / "Caddyfile").write_bytes(b"\xff")
    monkeypatch.setattr(caddy, "configure", fail)
    watch.repair(RUNNING)
    assert _trouble(watch) == Trouble("/run/gesso: No space left on device", "make room on the disk")
    assert (world.ended, world.notes) == ([], [])
