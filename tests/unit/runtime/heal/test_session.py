"""Around every heal: one at a time, and an end that is told and kept, however it comes."""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.runtime import locks
from gesso.runtime.heal import reports
from gesso.runtime.heal.session import hearer, held, session, show

if TYPE_CHECKING:
    from gesso.runtime.layout import Layout

ABOUT = {"id": "20261125-120000-abcdef", "by": "test", "arch": "sdxl", "title": "A toy"}


def _options(**given: bool) -> argparse.Namespace:
    return argparse.Namespace(**{"events": False, "json": False, **given})


def _events(layout: Layout) -> list[str]:
    return [line["event"] for line in reports.lines(layout.reports, ABOUT["id"])[0]]


def test_a_heal_is_told_from_its_beginning_to_its_report(layout: Layout) -> None:
    heard: list[dict[str, Any]] = []
    with session(layout, heard.append, ABOUT, dry_run=True) as made:
        assert locks.taken(layout.heal_lock)
        made.tell("said", text="hello")
    assert not locks.taken(layout.heal_lock)
    assert [event["event"] for event in heard] == ["begun", "said", "ended"] == _events(layout)
    assert heard[0]["dry_run"] is True
    assert made.report["ok"]
    assert reports.read(layout.reports, ABOUT["id"]) == made.report
    assert made.report["by"] == "test"


@pytest.mark.parametrize("how", ["ctrl-c", "sigterm"])
def test_an_early_end_is_told_and_kept(layout: Layout, how: str) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with session(layout, lambda _: None, ABOUT, dry_run=False) as made:
        if how == "ctrl-c":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(5)
    assert made.report["code"] == 130
    assert not made.report["ok"]
    kept = reports.read(layout.reports, ABOUT["id"])
    assert kept is not None
    assert "interrupted" in kept["summary"]
    assert _events(layout)[-1] == "ended"
    assert signal.getsignal(signal.SIGTERM) is before
    assert not locks.taken(layout.heal_lock)


def test_what_nobody_expected_goes_on_upwards_and_the_report_is_kept(layout: Layout) -> None:
    with pytest.raises(CheckError), session(layout, lambda _: None, ABOUT, dry_run=False):
        raise CheckError("no")
    assert reports.read(layout.reports, ABOUT["id"]) is not None


def test_the_second_waits_and_says_so(layout: Layout) -> None:
    heard: list[str] = []
    waited = threading.Event()

    def hear(event: dict[str, Any]) -> None:
        heard.append(event["event"])
        waited.set()

    def second() -> None:
        with held(layout.heal_lock, lambda event, **_: hear({"event": event})):
            heard.append("mine")

    with session(layout, lambda _: None, ABOUT, dry_run=False):
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(20)
        assert heard == ["waiting"]
    thread.join(20)
    assert heard == ["waiting", "mine"]


def test_events_are_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    hearer(_options(events=True))({"event": "found"})
    assert json.loads(capsys.readouterr().out) == {"event": "found"}
    hearer(_options())({"event": "restarting", "what": "comfyui", "why": "so"})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "restarting comfyui" in captured.err


def test_a_report_is_shown_as_asked(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    with session(layout, lambda _: None, ABOUT, dry_run=False) as made:
        pass
    assert show(made.report, layout, _options(json=True)) == 0
    assert json.loads(capsys.readouterr().out)["id"] == ABOUT["id"]
    assert show(made.report, layout, _options()) == 0
    assert capsys.readouterr().out.startswith("ok: nothing is wrong")
    assert show(made.report, layout, _options(events=True)) == 0
    assert capsys.readouterr().out == ""
