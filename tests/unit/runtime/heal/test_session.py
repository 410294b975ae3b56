"""The session around every heal: one at a time, and a report at its end, however it ends."""

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
from gesso.runtime.heal.session import event_printer, exclusive, open_session, print_report

if TYPE_CHECKING:
    from gesso.runtime.layout import Layout

FACTS = {"id": "20261125-120000-abcdef", "by": "test", "arch": "sdxl", "title": "A toy"}


def _options(**options: bool) -> argparse.Namespace:
    return argparse.Namespace(**{"events": False, "json": False, **options})


def _events(layout: Layout) -> list[str]:
    return [line["event"] for line in reports.lines(layout.reports, FACTS["id"])[0]]


def test_a_heal_is_recorded_from_its_start_to_its_report(layout: Layout) -> None:
    events: list[dict[str, Any]] = []
    with open_session(layout, events.append, FACTS, dry_run=True) as session:
        assert locks.is_held(layout.heal_lock)
        session.emit("said", text="hello")
    assert not locks.is_held(layout.heal_lock)
    assert [event["event"] for event in events] == ["begun", "said", "ended"] == _events(layout)
    assert events[0]["dry_run"] is True
    assert session.report["ok"]
    assert reports.read(layout.reports, FACTS["id"]) == session.report
    assert session.report["by"] == "test"


@pytest.mark.parametrize("how", ["ctrl-c", "sigterm"])
def test_an_interrupted_heal_writes_its_report(layout: Layout, how: str) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with open_session(layout, lambda _: None, FACTS, dry_run=False) as session:
        if how == "ctrl-c":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(5)
    assert session.report["code"] == 130
    assert not session.report["ok"]
    report = reports.read(layout.reports, FACTS["id"])
    assert report is not None
    assert "interrupted" in report["summary"]
    assert _events(layout)[-1] == "ended"
    assert signal.getsignal(signal.SIGTERM) is before
    assert not locks.is_held(layout.heal_lock)


def test_an_unexpected_error_propagates_and_the_report_is_written(layout: Layout) -> None:
    with pytest.raises(CheckError), open_session(layout, lambda _: None, FACTS, dry_run=False):
        raise CheckError("no")
    assert reports.read(layout.reports, FACTS["id"]) is not None


def test_a_second_heal_waits_and_reports_that(layout: Layout) -> None:
    events: list[str] = []
    waited = threading.Event()

    def listener(event: dict[str, Any]) -> None:
        events.append(event["event"])
        waited.set()

    def second() -> None:
        with exclusive(layout.heal_lock, lambda event, **_: listener({"event": event})):
            events.append("mine")

    with open_session(layout, lambda _: None, FACTS, dry_run=False):
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(20)
        assert events == ["waiting"]
    thread.join(20)
    assert events == ["waiting", "mine"]


def test_events_are_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    event_printer(_options(events=True))({"event": "found"})
    assert json.loads(capsys.readouterr().out) == {"event": "found"}
    event_printer(_options())({"event": "restarting", "what": "comfyui", "why": "so"})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "restarting comfyui" in captured.err


def test_a_report_is_printed_as_the_options_request(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    with open_session(layout, lambda _: None, FACTS, dry_run=False) as session:
        pass
    assert print_report(session.report, layout, _options(json=True)) == 0
    assert json.loads(capsys.readouterr().out)["id"] == FACTS["id"]
    assert print_report(session.report, layout, _options()) == 0
    assert capsys.readouterr().out.startswith("ok: nothing is wrong")
    assert print_report(session.report, layout, _options(events=True)) == 0
    assert capsys.readouterr().out == ""
