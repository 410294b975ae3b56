"""Events become rows and totals: never negative, never nonsense, whatever order they come in."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gesso.models import progress
from gesso.models.events import Event, Kind
from gesso.models.progress import WINDOW, WORDS, Board, line, summary

KINDS: tuple[Kind, ...] = get_args(Kind)
MB = 10**6


def event(kind: Kind, name: str = "vae/a.sft", done: int = 0, size: int | None = 100 * MB, **more: object) -> Event:
    return Event(kind=kind, name=name, size=size, done=done, **more)  # type: ignore[arg-type]


def board(*events: tuple[float, Event]) -> Board:
    made = Board()
    for now, each in events:
        made.feed(each, now)
    return made


def test_every_kind_of_event_has_words() -> None:
    assert WORDS.keys() == set(KINDS)
    assert all(WORDS.values())


def test_a_row_is_what_the_last_event_said() -> None:
    made = board(
        (0, event("planned")), (1, event("started", source="hf.co")), (2, event("progress", done=5, connections=4))
    )
    (row,) = made.rows.values()
    assert (row.kind, row.done, row.size, row.connections, row.source) == ("progress", 5, 100 * MB, 4, "hf.co")
    assert row.active
    assert not row.ended
    assert row.state == "fetching"


def test_a_size_once_known_stays_known() -> None:
    made = board((0, event("planned")), (1, event("progress", done=5, size=None)))
    assert made.rows["vae/a.sft"].size == 100 * MB


def test_the_rate_is_that_of_the_last_seconds() -> None:
    made = board(*((t, event("progress", done=t * MB)) for t in range(11)))
    row = made.rows["vae/a.sft"]
    assert row.rate == pytest.approx(MB)
    assert row.left == pytest.approx(90)
    for t in range(11, 21):  # ten times as fast
        made.feed(event("progress", done=10 * MB + (t - 10) * 10 * MB, size=300 * MB), t)
    assert row.rate == pytest.approx(10 * MB)
    assert all(now >= 20 - WINDOW for now, _ in row.samples)


def test_with_one_sample_or_no_time_between_there_is_no_rate() -> None:
    assert board((0, event("progress", done=5))).rows["vae/a.sft"].rate == 0
    made = board((3, event("progress", done=0)), (3, event("progress", done=5)))
    assert made.rows["vae/a.sft"].rate == 0
    assert made.rows["vae/a.sft"].left is None


def test_a_stall_shows() -> None:
    made = board(*((t, event("progress", done=min(t, 3) * MB)) for t in range(12)))
    assert made.rows["vae/a.sft"].rate == 0


def test_to_hash_what_is_there_counts_apart_from_the_fetch() -> None:
    """A disk reads 2 GB/s: that must not look like a download."""
    made = board((0, event("checking", done=0)), (1, event("checking", done=90 * MB)), (1.5, event("started")))
    assert made.rows["vae/a.sft"].rate == 0
    made.feed(event("progress", done=1 * MB), 2.5)
    assert made.rows["vae/a.sft"].rate == pytest.approx(MB)
    made = board((0, event("checking", done=0)), (1, event("checking", done=10)), (1.5, event("started", done=90 * MB)))
    assert made.rows["vae/a.sft"].rate == 0  # resumed: what was there already came at no rate at all


def test_what_begins_again_begins_at_nothing() -> None:
    made = board((0, event("progress", done=50)), (1, event("progress", done=90)), (2, event("retrying", done=0)))
    row = made.rows["vae/a.sft"]
    assert (row.done, row.rate) == (0, 0)
    made.feed(event("progress", done=10), 3)
    assert row.rate == pytest.approx(10)


@pytest.mark.parametrize("kind", ["quarantined", "waiting", "failed", "skipped"])
def test_what_says_nothing_of_bytes_changes_none(kind: Kind) -> None:
    made = board((0, event("progress", done=50)), (1, event(kind)))
    assert made.rows["vae/a.sft"].done == 50


def test_what_will_not_come_does_not_count() -> None:
    made = board(
        (0, event("progress", "a", done=40, size=100)), (0, event("skipped", "b", size=1_000)),
        (0, event("progress", "c", done=10, size=500)), (1, event("failed", "c", size=500)),
        (1, event("there", "d", done=7, size=7)), (1, event("planned", "e", size=50)),
    )  # fmt: skip
    done, wanted, rate, left = made.totals()
    assert (done, wanted, rate, left) == (47, 157, 0, None)


def test_totals_add_the_rates_of_what_moves() -> None:
    made = Board()
    for t in range(5):
        for name in ("a", "b"):
            made.feed(event("progress", name, done=t * MB), t)
    made.feed(event("done", "b", done=100 * MB), 5)
    done, wanted, rate, left = made.totals()
    assert (done, wanted) == (104 * MB, 200 * MB)
    assert rate == pytest.approx(MB)
    assert left == pytest.approx(96)


def test_the_furthest_come_first() -> None:
    made = board(
        (0, event("progress", "a", done=1)), (0, event("progress", "b", done=9)), (0, event("done", "c", done=5))
    )
    assert [row.name for row in made.active] == ["b", "a"]


EVENTS = st.builds(
    Event,
    kind=st.sampled_from(KINDS), name=st.sampled_from(["a", "b", "c"]), size=st.none() | st.integers(0, 10**12),
    done=st.integers(0, 10**12), source=st.sampled_from(["", "h"]), message=st.just(""),
)  # fmt: skip


@settings(max_examples=250)
@given(st.lists(st.tuples(st.floats(0, 30), EVENTS), max_size=30))
def test_whatever_happens_nothing_is_negative_nor_over_the_whole(made: list[tuple[float, Event]]) -> None:
    found, now = Board(), 0.0
    for seconds, each in made:
        now += seconds
        found.feed(each, now)
        done, wanted, rate, left = found.totals()
        assert 0 <= done <= wanted
        assert rate >= 0
        assert left is None or left >= 0
        for row in found.rows.values():
            assert row.rate >= 0
            assert row.active + row.ended <= 1
            assert row.done >= 0
        assert "-" not in line(found)
        assert len(row.samples) < 100
    assert len(found.rows) == len({each.name for _, each in made})


@given(st.integers(1, 10**9), st.integers(0, 10**9))
def test_a_file_that_takes_more_than_it_should_has_no_negative_time_left(size: int, more: int) -> None:
    """huggingface_hub's own notes on disk count too, and a lock may be wrong."""
    made = board((0, event("progress", done=0, size=size)), (1, event("progress", done=size + more, size=size)))
    left = made.rows["vae/a.sft"].left
    assert left is None or left >= 0
    assert "101 %" not in line(made)
    share = line(made).rpartition(" %")[0].rpartition(" ")[2]
    assert int(share) <= 100


def test_the_whole_state_in_one_line() -> None:
    made = board((0, event("done", "b", done=10**9, size=10**9)))
    made.feed(event("progress", "vae/a.sft", done=0, size=2 * 10**9, source="hf.co"), 0)
    made.feed(event("progress", "vae/a.sft", done=5 * 10**8, size=2 * 10**9, source="hf.co"), 5)
    assert line(made) == ("1 of 2 models, 1.5 GB of 3.0 GB, 100.0 MB/s, 15 s left, vae/a.sft 25 % fetching from hf.co")
    assert line(Board()) == "0 of 0 models, 0 B of 0 B, 0 B/s"


def test_a_summary_counts_how_each_ended() -> None:
    made = board((0, event("done", "a")), (0, event("done", "b")), (0, event("failed", "c")))
    assert summary(made.rows.values()) == "2 done, 1 failed"
    assert summary([]) == ""


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (710_000, "710.0 kB"), (1_500_000, "1.5 MB"), (6.62e9, "6.6 GB")],
)
def test_sizes(count: float, said: str) -> None:
    assert progress.size(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (61, "1 min 1 s"), (3_599, "59 min 59 s"), (3_600, "1 h 0 min"),
     (86_400, "24 h 0 min")],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    assert progress.duration(seconds) == said


def test_an_event_as_json_leaves_out_what_is_empty_and_keeps_what_is_zero() -> None:
    assert event("planned", size=None).as_json() == {
        "kind": "planned", "name": "vae/a.sft", "tier": "required", "done": 0, "connections": 0,
    }  # fmt: skip
    assert event("failed", message="no", source="h").as_json()["message"] == "no"
