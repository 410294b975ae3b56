"""The models of an instance: fetch events are processed, failures retried, changed files noticed."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gesso import proc
from gesso.errors import GessoError
from gesso.models.events import Event
from gesso.models.folder import Folder
from gesso.runtime.state.state import Trouble
from gesso.runtime.watch import model_sync
from gesso.runtime.watch.watched import WatchedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gesso.runtime.layout import Layout

RETRIED = "nothing yet: it is retried automatically"
FIRST, SECOND = "vae/first.safetensors", "loras/second.safetensors"


def _model(name: str, tier: str = "required") -> WatchedModel:
    return WatchedModel(name, tier, "0" * 64, 3, "MIT")


def _line(kind: Any, name: str = FIRST, **more: Any) -> str:
    return json.dumps(Event(kind=kind, name=name, **more).as_json())


class Runs:
    """A fake fetch: each run prints the next lines and ends with their code."""

    def __init__(self, *ends: tuple[int, list[str]]) -> None:
        self.ends = list(ends)
        self.commands: list[list[str]] = []

    def __call__(self, command: Sequence[str], on_line: Callable[[str], None]) -> proc.Result:
        self.commands.append(list(command))
        code, lines = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        for line in lines:
            on_line(line)
        return proc.Result(command="", code=code, stdout="", output="")


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Runs], model_sync.ModelSync]:
    for name in (FIRST, SECOND):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"abc")
    models = (_model(FIRST), _model(SECOND, "optional"))
    return lambda runs: model_sync.ModelSync(models, Folder.at(tmp_path), ["fetch"], runs)


ALL = (0, [_line("there", done=3), _line("done", SECOND, done=3)])


def test_before_anything_nothing_is_known(make: Callable[[Runs], model_sync.ModelSync]) -> None:
    models_known, models, fault = make(Runs(ALL)).facts()
    assert not models_known
    assert [model.stage for model in models] == ["waiting", "waiting"]
    assert fault is None


def test_a_fetch_that_went_well(make: Callable[[Runs], model_sync.ModelSync]) -> None:
    sync = make(Runs(ALL))
    sync.fetch_once()
    models_known, models, fault = sync.facts()
    assert models_known
    assert [(m.stage, m.done, m.size, m.trouble) for m in models] == [("verified", 3, 3, None)] * 2
    assert fault is None
    assert not sync.errors


def test_a_failure_keeps_its_kind_and_its_host(make: Callable[[Runs], model_sync.ModelSync]) -> None:
    message = f"gesso: {FIRST}: a.example: HTTP 404: it is gone\n  next: correct it"
    sync = make(Runs((4, [_line("failed", message=message, fault="not-found", source="a.example")])))
    sync.fetch_once()
    first = sync.facts()[1][0]
    assert first.trouble == Trouble("a.example: HTTP 404: it is gone", "correct it", "not-found")
    assert (first.source, first.license) == ("a.example", "MIT")
    assert sync.errors[-1][1] == f"{FIRST}: a.example: HTTP 404: it is gone"


def test_a_failed_model_has_its_reason_until_bytes_arrive(make: Callable[[Runs], model_sync.ModelSync]) -> None:
    sync = make(Runs((4, [_line("failed", message="no answer\n  next: check the network"), "gesso: no answer"])))
    sync.fetch_once()
    _, (first, _), fault = sync.facts()
    assert (first.stage, first.trouble) == ("failed", Trouble("no answer", "check the network"))
    assert fault is None
    assert [text for _, text in sync.errors] == [f"{FIRST}: no answer"]
    sync.feed(Event(kind="started", name=FIRST))
    sync.feed(Event(kind="progress", name=FIRST, done=0))
    assert sync.facts()[1][0].trouble is not None
    sync.feed(Event(kind="progress", name=FIRST, done=1))
    assert sync.facts()[1][0].trouble is None


@pytest.mark.parametrize(
    ("code", "lines", "fault"),
    [
        (4, ["x", "gesso: /m: 3 GB do not fit", "  next: make room"], Trouble("/m: 3 GB do not fit", "make room")),
        (4, ["gesso: no"], Trouble("no")),
        (-9, ["half a line"], Trouble("fetching ended with code -9: half a line", RETRIED)),
        (1, [], Trouble("fetching ended with code 1", RETRIED)),
    ],
)  # fmt: skip
def test_the_reason_why_the_whole_fetch_failed(
    make: Callable[[Runs], model_sync.ModelSync], code: int, lines: list[str], fault: Trouble
) -> None:  # fmt: skip
    sync = make(Runs((code, lines), ALL))
    sync.fetch_once()
    assert sync.facts()[2] == fault
    sync.fetch_once()
    assert sync.facts()[2] is None


def test_a_missing_program_is_reported(make: Callable[[Runs], model_sync.ModelSync]) -> None:
    sync = make(Runs(ALL))

    def missing(*_: Any) -> proc.Result:
        raise GessoError("setpriv: not found on PATH", "install it")

    sync._run = missing
    sync.fetch_once()
    fault = sync.facts()[2]
    assert fault is not None
    assert "setpriv: not found on PATH" in fault.why


@pytest.mark.parametrize("line", ["", "text", "{", '{"a": 1}', '{"kind": "done"}', "[]", "{}"])
def test_lines_that_are_not_events(line: str) -> None:
    assert model_sync.parse_event(line) is None


def test_the_backoff_doubles_and_is_bounded() -> None:
    assert [model_sync.backoff(n) for n in (0, 1, 2, 3, 4, 100, 10**6)] == [5, 10, 20, 40, 60, 60, 60]


def test_it_retries_forever_and_then_watches(
    make: Callable[[Runs], model_sync.ModelSync], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(model_sync, "CHECK_INTERVAL", 0.01)
    monkeypatch.setattr(model_sync, "_FIRST_BACKOFF", 0.02)
    failing = (4, [_line("failed", message="no")])
    runs = Runs(failing, failing, failing, ALL)
    sync = make(runs)
    stop = threading.Event()
    thread = threading.Thread(target=sync.run, args=(stop,))
    thread.start()
    try:
        _until(lambda: len(runs.commands) == 4)
        assert not stop.wait(0.1)
        assert len(runs.commands) == 4  # everything is verified: nothing to do
        (tmp_path / FIRST).write_bytes(b"abX")
        _until(lambda: len(runs.commands) == 5)
        (tmp_path / SECOND).unlink()
        _until(lambda: len(runs.commands) == 6)
    finally:
        stop.set()
        thread.join()
    notes = [text for _, text in sync.errors]
    assert f"{FIRST}: was changed on disk; being repaired" in notes
    assert f"{SECOND}: is gone; being repaired" in notes


def _until(condition: Callable[[], bool]) -> None:
    wait = threading.Event()
    for _ in range(1000):
        if condition():
            return
        wait.wait(0.01)
    pytest.fail("timed out")


def test_a_changed_file_is_not_verified(make: Callable[[Runs], model_sync.ModelSync], tmp_path: Path) -> None:
    sync = make(Runs(ALL))
    sync.fetch_once()
    assert not sync._changed()
    (tmp_path / FIRST).write_bytes(b"abX")
    assert sync._changed()
    assert [model.stage for model in sync.facts()[1]] == ["waiting", "verified"]


def test_a_file_that_changes_before_the_fetch_has_ended_is_noticed(
    make: Callable[[Runs], model_sync.ModelSync], tmp_path: Path
) -> None:
    """The last model is verified, and the state is ready, a moment before the fetch process ends."""
    sync = make(Runs(ALL))

    def run(_: Sequence[str], on_line: Callable[[str], None]) -> proc.Result:
        for line in ALL[1]:
            on_line(line)
        (tmp_path / FIRST).unlink()
        (tmp_path / SECOND).write_bytes(b"abX")
        return proc.Result(command="", code=0, stdout="", output="")

    sync._run = run
    sync.fetch_once()
    assert sync._changed()
    assert [model.stage for model in sync.facts()[1]] == ["waiting", "waiting"]


@pytest.mark.parametrize(
    ("stages", "tries", "delay"),
    [
        (("there", "there"), 0, float("inf")), (("there", "skipped"), 1, 300.0), (("there", "failed"), 1, 10.0),
        (("waiting", "there"), 1, 10.0),
    ],
)  # fmt: skip
def test_the_delay_until_the_next_attempt(
    make: Callable[[Runs], model_sync.ModelSync], stages: tuple[Any, Any], tries: int, delay: float
) -> None:
    sync = make(Runs(ALL))
    for name, kind in zip((FIRST, SECOND), stages, strict=True):
        sync.feed(Event(kind=kind, name=name))
    assert sync._delay() == delay
    assert sync.tries == tries


def test_the_command_ends_with_the_agent_and_has_low_priority(layout: Layout) -> None:
    argv = model_sync.command(layout)
    assert argv[:3] == ["setpriv", "--pdeathsig", "TERM"]
    assert argv[3:6] == ["nice", "-n", "19"]
    assert argv[-2:] == ["fetch", "--events"]


def test_a_file_is_rechecked_on_request_though_it_looks_unchanged(
    make: Callable[[Runs], model_sync.ModelSync],
) -> None:
    sync = make(Runs(ALL))
    sync.fetch_once()
    assert not sync._changed()
    sync.recheck(FIRST)
    assert sync._changed()
    _, (first, _), _ = sync.facts()
    assert first.stage != "verified"
    assert any(FIRST in text for _, text in sync.errors)


def test_models_claimed_by_a_heal_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_sync, "_CLAIM_POLL", 0.001)
    runs, stop, answers = Runs(ALL), threading.Event(), [True] * 5
    done: list[int] = []

    def claimed() -> bool:
        done.append(len(runs.commands))
        if answers:
            return answers.pop()
        stop.set()
        return False

    model_sync.ModelSync((), Folder.at(tmp_path), ["fetch"], runs, claimed=claimed).run(stop)
    assert done == [0] * 6
    assert len(runs.commands) == 1
