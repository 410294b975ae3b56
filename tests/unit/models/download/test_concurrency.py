"""More connections while each addition brings about what it should; no more where it does not."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.models.download.concurrency import FIRST, ConnectionCount
from gesso.models.net.limits import MOST

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = 0.1  # seconds


def run(rate: Callable[[int], float], seconds: float, pace: ConnectionCount | None = None) -> list[ConnectionCount]:
    """Let bytes come at `rate(connections)` a second; give the pace at every tick."""
    pace, total, seen = pace or ConnectionCount(), 0.0, []
    for tick in range(1, round(seconds / TICK) + 1):
        total += rate(pace.connections) * TICK
        pace = pace.after(tick * TICK, int(total))
        seen.append(pace)
    return seen


MB = 1e6


@given(st.floats(0.05 * MB, 199 * MB), st.integers(1, 64))
def test_where_each_connection_is_capped_it_reaches_the_most(cap: float, most: int) -> None:
    paces = run(lambda n: n * cap, 10, ConnectionCount(connections=min(FIRST, most), most=most))
    assert paces[-1].connections == most
    assert paces[-1].settled


@given(st.floats(210 * MB, 10_000 * MB))
def test_connections_that_nobody_caps_are_enough_as_they_are(each: float) -> None:
    """On such a link it is this machine's processors that they would take from each other."""
    assert {pace.connections for pace in run(lambda n: n * each, 30)} == {FIRST}


def test_a_capped_link_is_full_within_two_seconds() -> None:
    paces = run(lambda n: n * 8.7 * MB, 2)
    assert paces[-1].connections == MOST


@given(st.floats(0.05 * MB, 10_000 * MB), st.floats(0.0, 0.04))
def test_on_a_shared_link_it_stays_at_few(rate: float, more: float) -> None:
    """20 Mbit/s, or a link that one connection fills: each further one brings next to nothing."""
    paces = run(lambda n: rate * (1 + more * (n - FIRST) / FIRST), 60)
    assert max(pace.connections for pace in paces) <= 2 * FIRST
    few = sum(pace.connections <= FIRST for pace in paces)
    assert few > 0.85 * len(paces)


@pytest.mark.parametrize(("share", "reached"), [(0.45, FIRST), (0.6, MOST)])
def test_half_of_what_growth_should_bring_is_enough_and_less_is_not(share: float, reached: int) -> None:
    """`share` of what proportional growth would bring, at each doubling."""
    rates = {FIRST * 2**n: (1 + share) ** n for n in range(4)}
    assert run(lambda n: rates[n] * MB, 6)[-1].connections == reached


def test_a_link_that_frees_up_later_is_noticed() -> None:
    paces = run(lambda _: 10 * MB, 5)
    assert (paces[-1].connections, paces[-1].settled) == (FIRST, True)
    again = ConnectionCount(connections=FIRST, settled=True)
    assert run(lambda n: n * MB, 12, again)[-1].connections == MOST


def test_it_does_not_try_again_all_the_time() -> None:
    paces = run(lambda _: 10 * MB, 60)
    changes = sum(before.connections != now.connections for before, now in pairwise(paces))
    assert 2 <= changes <= 16


def test_it_is_not_judged_before_it_has_settled() -> None:
    pace = ConnectionCount()
    assert pace.after(0.1, 10_000_000) is pace
    assert pace.after(0.5, 10_000_000) is pace


def test_at_the_most_it_rests_for_good() -> None:
    paces = run(lambda n: n * MB, 5)
    last = paces[-1]
    assert last.after(1_000, 0) is last


def test_a_source_that_gives_nothing_is_not_asked_by_ever_more() -> None:
    """Twice nothing is no gain: a server that hangs needs no sixteen connections."""
    assert max(pace.connections for pace in run(lambda _: 0.0, 20)) <= 2 * FIRST


@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.floats(0, 20), st.integers(0, 10**10)), max_size=60),
)
def test_it_is_never_above_the_most_nor_below_one(most: int, steps: list[tuple[float, int]]) -> None:
    now, total = 0.0, 0
    pace = ConnectionCount(connections=min(FIRST, most), most=most)
    for seconds, count in steps:
        now, total = now + seconds, total + count
        pace = pace.after(now, total)
        assert 1 <= pace.connections <= most
        assert pace.most == most
