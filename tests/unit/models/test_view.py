"""What a person sees of a fetch: a line for each turn, one in five seconds between, bars where there is a terminal."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from gesso.models import progress, view
from gesso.models.events import Event
from gesso.models.view import FetchView, change_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.models.events import Kind

MB = 10**6


def event(kind: Kind, done: int = 0, name: str = "vae/a.sft", **more: object) -> Event:
    return Event(kind=kind, name=name, size=more.pop("size", 100 * MB), done=done, **more)  # type: ignore[arg-type]


class Shown:
    """A view on a console that remembers, with a clock in our hands."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.out = io.StringIO()
        self.now = 0.0
        console = Console(file=self.out, force_terminal=terminal, width=120, color_system=None)
        self.view = FetchView(console, lambda: self.now)

    def feed(self, now: float, what: Event) -> None:
        self.now = now
        self.view.on_event(what)

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


def test_elsewhere_than_on_a_terminal_a_line_in_five_seconds() -> None:
    shown = Shown()
    with shown.view:
        shown.feed(0, event("planned"))
        for tenth in range(200):  # twenty seconds, ten events in each
            shown.feed(tenth / 10, event("progress", done=tenth * MB // 10, source="hf.co"))
    assert len(shown.lines) == 3
    assert (
        shown.lines[0]
        == "0 of 1 models, 5.0 MB of 100.0 MB, 1.0 MB/s, 1 min 35 s left, vae/a.sft 5 % fetching from hf.co"
    )


@pytest.mark.parametrize("kind", ["quarantined", "switched", "retrying", "done", "skipped", "failed", "waiting"])
def test_a_turn_is_said_at_once(kind: Kind) -> None:
    shown = Shown()
    with shown.view:
        shown.feed(0, event(kind, message="because"))
        shown.feed(0, event(kind, message="because"))
    assert len(shown.lines) == 2
    assert shown.lines[0].startswith("vae/a.sft: ")
    assert kind == "done" or "because" in shown.lines[0]


@pytest.mark.parametrize("kind", ["planned", "there", "started", "checking", "progress"])
def test_what_is_no_turn_is_not_said_by_itself(kind: Kind) -> None:
    shown = Shown()
    with shown.view:
        shown.feed(0, event(kind))
    assert shown.lines == []


def test_what_a_server_says_is_text_and_no_markup() -> None:
    shown = Shown()
    shown.feed(0, event("failed", message="[bold]x[/bold] [/nonsense] :smile:"))
    assert shown.lines == ["vae/a.sft: failed: [bold]x[/bold] [/nonsense] :smile:"]


def test_a_long_line_is_left_whole() -> None:
    shown = Shown()
    shown.feed(0, event("failed", message="word " * 100))
    assert len(shown.lines) == 1


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (event("done", 5 * MB, source="hf.co"), "vae/a.sft: done, 5.0 MB from hf.co"),
        (event("done", 5 * MB), "vae/a.sft: done, 5.0 MB"),
        (event("switched", source="two", message="one: HTTP 404"), "vae/a.sft: next source (two): one: HTTP 404"),
        (
            event("waiting", message="another process is at it"),
            "vae/a.sft: waits for another process: another process is at it",
        ),
        (event("skipped", message="no room"), "vae/a.sft: left out: no room"),
    ],
)
def test_the_line_for_a_turn(what: Event, said: str) -> None:
    assert change_line(progress.Board().feed(what, 0)) == said


def test_on_a_terminal_there_are_bars_and_a_total() -> None:
    shown = Shown(terminal=True)
    with shown.view:
        shown.feed(0, event("progress", source="hf.co"))
        shown.feed(5, event("progress", 50 * MB, source="hf.co"))
        shown.feed(5, event("progress", 1 * MB, name=f"vae/{'long' * 20}.sft", size=None))
        shown.feed(5, event("failed", name="vae/b.sft", message="HTTP 404"))
    text = shown.out.getvalue()
    assert "vae/b.sft: failed: HTTP 404" in text
    console = Console(file=io.StringIO(), width=160, record=True)
    console.print(shown.view._table())
    first, second, total = console.export_text().splitlines()
    for part in ("a.sft", "50.0 MB of 100.0 MB", "10.0 MB/s", "5 s", "fetching hf.co"):
        assert part in first, part
    assert "longlonglong" in second
    assert "..." in second
    assert "1.0 MB" in second
    for part in ("all", "51.0 MB of 101.0 MB", "1 of 3 models"):
        assert part in total, part


def test_bars_are_taken_away_at_the_end_and_after_a_failure() -> None:
    shown = Shown(terminal=True)
    before = set(threading.enumerate())
    with shown.view:
        drawing = set(threading.enumerate()) - before
    assert len(drawing) == 1
    with pytest.raises(KeyboardInterrupt), shown.view:
        raise KeyboardInterrupt
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
    assert set(threading.enumerate()) <= before


def test_without_a_console_it_draws_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with FetchView() as made:
        made.on_progress("hello")
    assert capsys.readouterr() == ("", "hello\n")


def test_it_may_be_drawn_while_threads_feed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich draws from a thread of its own: a row that comes in the middle of that must not end it."""
    shown = Shown()
    for name in "abc":
        shown.feed(0, event("progress", name=name))
    active: Callable[[progress.Row], bool] = vars(progress.Row)["active"].fget
    feeding = threading.Thread(target=shown.view.on_event, args=(event("progress", name="new"),))

    def meddle(row: progress.Row) -> bool:
        if feeding.ident is None:
            feeding.start()
            feeding.join(0.2)  # it may have to wait until the drawing is done
        return active(row)

    monkeypatch.setattr(progress.Row, "active", property(meddle))
    shown.view._table()
    feeding.join()
    assert set(shown.view.board.rows) == {"a", "b", "c", "new"}


def test_the_words_of_a_turn_are_those_of_the_board() -> None:
    assert set(progress.WORDS) >= view.CHANGES
