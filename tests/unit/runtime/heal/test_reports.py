"""The journal and the report: what other programs read during a heal and after it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gesso.runtime.heal import reports

if TYPE_CHECKING:
    from pathlib import Path

ID = "20261125-120000-abcdef"


def test_ids_sort_by_time_and_are_valid() -> None:
    first, second = reports.new_id(1_000_000_000), reports.new_id(1_000_000_001)
    assert first < second
    assert reports.is_id(first)


@pytest.mark.parametrize(
    "text", ["", "..", "../20261125-120000-abcdef", f"{ID}\n", f"{ID}/x", "20261125-120000-ABCDEF"]
)
def test_invalid_ids(text: str) -> None:
    assert not reports.is_id(text)


def test_events_are_read_as_they_are_written(tmp_path: Path) -> None:
    journal = reports.Journal(tmp_path / "reports", ID)
    journal.emit("begun", id=ID)
    events, at = reports.lines(tmp_path / "reports", ID)
    assert [event["event"] for event in events] == ["begun"]
    journal.emit("ended", ok=True)
    more, end = reports.lines(tmp_path / "reports", ID, at)
    assert [event["event"] for event in more] == ["ended"]
    assert end == (tmp_path / "reports" / f"{ID}.jsonl").stat().st_size


def test_an_incomplete_line_is_left_for_the_next_read(tmp_path: Path) -> None:
    path = tmp_path / f"{ID}.jsonl"
    path.write_text('{"event": "begun"}\n{"event": "fou', encoding="utf-8")
    events, at = reports.lines(tmp_path, ID)
    assert len(events) == 1
    with path.open("a", encoding="utf-8") as file:
        file.write('nd"}\n')
    assert [event["event"] for event in reports.lines(tmp_path, ID, at)[0]] == ["found"]


def test_lines_that_are_not_events_are_skipped(tmp_path: Path) -> None:
    (tmp_path / f"{ID}.jsonl").write_bytes(b'\xff\xfe\n[1]\n{"event": "begun"}\n')
    assert [event["event"] for event in reports.lines(tmp_path, ID)[0]] == ["begun"]
    assert reports.lines(tmp_path, "20261125-120000-000000") == ([], 0)


def test_the_report_is_complete_or_absent(tmp_path: Path) -> None:
    journal = reports.Journal(tmp_path, ID)
    journal.emit("begun")
    assert reports.read(tmp_path, ID) is None
    journal.end({"ok": True})
    assert reports.read(tmp_path, ID) == {"ok": True}
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{ID}.json", f"{ID}.jsonl"]
    (tmp_path / f"{ID}.json").write_text("{", encoding="utf-8")
    assert reports.read(tmp_path, ID) is None


def test_the_oldest_reports_are_removed(tmp_path: Path) -> None:
    names = [reports.new_id(1_000_000_000 + n) for n in range(5)]
    for name in names:
        reports.Journal(tmp_path, name).emit("begun")
        reports.Journal(tmp_path, name).end({})
    (tmp_path / "mine.json").write_text("{}", encoding="utf-8")
    reports.trim(tmp_path, 2)
    assert reports.names(tmp_path) == [names[4], names[3]]
    assert (tmp_path / "mine.json").exists()


def test_write_errors_do_not_stop_a_heal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    journal = reports.Journal(tmp_path / "file", ID)
    assert json.loads(json.dumps(journal.emit("begun")))["event"] == "begun"
    journal.end({})
    assert reports.names(tmp_path / "file") == []
