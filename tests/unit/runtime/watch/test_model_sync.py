"""The models of an instance: what a fetch says is taken in, what failed is tried again, what changes is noticed."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gesso import proc
from gesso.errors import GessoError
from gesso.manifest.schema import Model
from gesso.models.events import Event
from gesso.models.folder import Folder
from gesso.runtime.state.state import Trouble
from gesso.runtime.watch import model_sync

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gesso.runtime.layout import Layout

AGAIN = "nothing yet: it is tried again by itself"
FIRST, SECOND = "vae/first.safetensors", "loras/second.safetensors"


def _model(name: str, tier: str = "required") -> Model:
    return Model.model_validate(
        {"name": name, "sources": [f"https://a.example/{name}"], "sha256": "0" * 64, "size": 3, "tier": tier,
         "kind": name.split("/", maxsplit=1)[0].removesuffix("s"), "family": "sdxl", "license": "MIT"}
    )  # fmt: skip


def _line(kind: Any, name: str = FIRST, **more: Any) -> str:
    return json.dumps(Event(kind=kind, name=name, **more).as_json())


class Runs:
    """Stands for the fetch: says these lines and ends with this code, time after time."""

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
def make(tmp_path: Path) -> Callable[[Runs], model_sync.Stock]:
    for name in (FIRST, SECOND):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"abc")
    models = (_model(FIRST), _model(SECOND, "optional"))
    return lambda runs: model_sync.Stock(models, Folder.at(tmp_path), ["fetch"], runs)


ALL = (0, [_line("there", done=3), _line("done", SECOND, done=3)])


def test_before_anything_nothing_is_known(make: Callable[[Runs], model_sync.Stock]) -> None:
    looked, models, fault = make(Runs(ALL)).facts()
    assert not looked
    assert [model.stage for model in models] == ["waiting", "waiting"]
    assert fault is None


def test_a_fetch_that_went_well(make: Callable[[Runs], model_sync.Stock]) -> None:
    goods = make(Runs(ALL))
    goods.fetch_once()
    looked, models, fault = goods.facts()
    assert looked
    assert [(m.stage, m.done, m.size, m.trouble) for m in models] == [("verified", 3, 3, None)] * 2
    assert fault is None
    assert not goods.errors


def test_one_that_failed_says_why_until_bytes_come(make: Callable[[Runs], model_sync.Stock]) -> None:
    goods = make(Runs((4, [_line("failed", message="no answer\n  next: check the network"), "gesso: no answer"])))
    goods.fetch_once()
    _, (first, _), fault = goods.facts()
    assert (first.stage, first.trouble) == ("failed", Trouble("no answer", "check the network"))
    assert fault is None
    assert [text for _, text in goods.errors] == [f"{FIRST}: no answer"]
    goods.feed(Event(kind="started", name=FIRST))
    goods.feed(Event(kind="progress", name=FIRST, done=0))
    assert goods.facts()[1][0].trouble is not None
    goods.feed(Event(kind="progress", name=FIRST, done=1))
    assert goods.facts()[1][0].trouble is None


@pytest.mark.parametrize(
    ("code", "lines", "fault"),
    [
        (4, ["x", "gesso: /m: 3 GB do not fit", "  next: make room"], Trouble("/m: 3 GB do not fit", "make room")),
        (4, ["gesso: no"], Trouble("no")),
        (-9, ["half a line"], Trouble("fetching ended with code -9: half a line", AGAIN)),
        (1, [], Trouble("fetching ended with code 1", AGAIN)),
    ],
)  # fmt: skip
def test_what_kept_all_of_them(
    make: Callable[[Runs], model_sync.Stock], code: int, lines: list[str], fault: Trouble
) -> None:  # fmt: skip
    goods = make(Runs((code, lines), ALL))
    goods.fetch_once()
    assert goods.facts()[2] == fault
    goods.fetch_once()
    assert goods.facts()[2] is None


def test_a_program_that_is_not_there_is_a_fault(make: Callable[[Runs], model_sync.Stock]) -> None:
    goods = make(Runs(ALL))

    def missing(*_: Any) -> proc.Result:
        raise GessoError("setpriv: not found on PATH", "install it")

    goods._run = missing
    goods.fetch_once()
    fault = goods.facts()[2]
    assert fault is not None
    assert "setpriv: not found on PATH" in fault.why


@pytest.mark.parametrize("line", ["", "text", "{", '{"a": 1}', '{"kind": "done"}', "[]", "{}"])
def test_lines_that_are_no_events(line: str) -> None:
    assert model_sync.event_of(line) is None


def test_the_pause_doubles_and_is_bounded() -> None:
    assert [model_sync.pause(n) for n in (0, 1, 2, 3, 4, 100, 10**6)] == [5, 10, 20, 40, 60, 60, 60]


def test_it_is_tried_again_for_ever_and_then_watched(
    make: Callable[[Runs], model_sync.Stock], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(model_sync, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(model_sync, "_FIRST", 0.02)
    failing = (4, [_line("failed", message="no")])
    runs = Runs(failing, failing, failing, ALL)
    goods = make(runs)
    stop = threading.Event()
    thread = threading.Thread(target=goods.run, args=(stop,))
    thread.start()
    try:
        _until(lambda: len(runs.commands) == 4)
        assert not stop.wait(0.1)
        assert len(runs.commands) == 4  # all is here: nothing more to do
        (tmp_path / FIRST).write_bytes(b"abX")
        _until(lambda: len(runs.commands) == 5)
        (tmp_path / SECOND).unlink()
        _until(lambda: len(runs.commands) == 6)
    finally:
        stop.set()
        thread.join()
    said = [text for _, text in goods.errors]
    assert f"{FIRST}: was changed on disk; being put right" in said
    assert f"{SECOND}: is gone; being put right" in said


def _until(true: Callable[[], bool]) -> None:
    wait = threading.Event()
    for _ in range(1000):
        if true():
            return
        wait.wait(0.01)
    pytest.fail("it did not come about")


def test_a_changed_file_is_not_called_verified(make: Callable[[Runs], model_sync.Stock], tmp_path: Path) -> None:
    goods = make(Runs(ALL))
    goods.fetch_once()
    assert not goods._changed()
    (tmp_path / FIRST).write_bytes(b"abX")
    assert goods._changed()
    assert [model.stage for model in goods.facts()[1]] == ["waiting", "verified"]


def test_a_file_that_changes_before_the_fetch_has_ended_is_noticed(
    make: Callable[[Runs], model_sync.Stock], tmp_path: Path
) -> None:
    """All are verified one by one, and shown as ready, a moment before the program that did it ends."""
    goods = make(Runs(ALL))

    def run(_: Sequence[str], on_line: Callable[[str], None]) -> proc.Result:
        for line in ALL[1]:
            on_line(line)
        (tmp_path / FIRST).unlink()
        (tmp_path / SECOND).write_bytes(b"abX")
        return proc.Result(command="", code=0, stdout="", output="")

    goods._run = run
    goods.fetch_once()
    assert goods._changed()
    assert [model.stage for model in goods.facts()[1]] == ["waiting", "waiting"]


@pytest.mark.parametrize(
    ("stages", "tries", "patience"),
    [
        (("there", "there"), 0, float("inf")), (("there", "skipped"), 1, 300.0), (("there", "failed"), 1, 10.0),
        (("waiting", "there"), 1, 10.0),
    ],
)  # fmt: skip
def test_how_long_until_the_next_try(
    make: Callable[[Runs], model_sync.Stock], stages: tuple[Any, Any], tries: int, patience: float
) -> None:
    goods = make(Runs(ALL))
    for name, kind in zip((FIRST, SECOND), stages, strict=True):
        goods.feed(Event(kind=kind, name=name))
    assert goods._patience() == patience
    assert goods.tries == tries


def test_the_command_ends_with_the_agent_and_is_polite(layout: Layout) -> None:
    words = model_sync.command(layout)
    assert words[:3] == ["setpriv", "--pdeathsig", "TERM"]
    assert words[3:6] == ["nice", "-n", "19"]
    assert words[-2:] == ["fetch", "--events"]


def test_a_models_folder_that_cannot_be_written(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model_sync.folder_of(layout).state == layout.models / ".gesso"
    layout.models.mkdir()
    monkeypatch.setattr("os.access", lambda *_: False)
    assert model_sync.folder_of(layout).state == layout.state / "models"


def test_a_doubted_file_is_checked_again_though_it_looks_as_it_did(make: Callable[[Runs], model_sync.Stock]) -> None:
    goods = make(Runs(ALL))
    goods.fetch_once()
    assert not goods._changed()
    goods.doubt(FIRST)
    assert goods._changed()
    _, (first, _), _ = goods.facts()
    assert first.stage != "verified"
    assert any(FIRST in text for _, text in goods.errors)


def test_what_a_heal_has_claimed_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_sync, "_CLAIMED", 0.001)
    runs, stop, answers = Runs(ALL), threading.Event(), [True] * 5
    done: list[int] = []

    def claimed() -> bool:
        done.append(len(runs.commands))
        if answers:
            return answers.pop()
        stop.set()
        return False

    model_sync.Stock((), Folder.at(tmp_path), ["fetch"], runs, claimed=claimed).run(stop)
    assert done == [0] * 6
    assert len(runs.commands) == 1
