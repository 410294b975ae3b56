"""Blocks are dealt out once each, the lowest first, in parts that get smaller towards the end."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from gesso.models.download.block_queue import LARGEST, SMALLEST, BlockQueue


@st.composite
def runs(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Give runs that do not overlap, in any order."""
    at, found = 0, []
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 400)), max_size=8)):
        found.append((at + gap, at + gap + length))
        at += gap + length
    return draw(st.permutations(found))


STEPS = st.lists(st.tuples(st.integers(-5, 300), st.integers(0, 20), st.floats(0, 1)), max_size=40)


@given(runs(), STEPS)
def test_every_block_is_dealt_exactly_once_whatever_is_given_back(
    made: list[tuple[int, int]], steps: list[tuple[int, int, float]]
) -> None:
    shares = BlockQueue(made)
    open_blocks = {block for start, end in made for block in range(start, end)}
    fetched: list[int] = []
    for wanted, workers, done in [*steps, *[(10, 1, 1.0)] * 10_000]:
        part = shares.take(wanted, workers)
        if part is None:
            break
        start, end = part
        assert 0 < end - start <= LARGEST
        assert start == min(open_blocks)  # so that the hash can follow
        assert set(range(start, end)) <= open_blocks
        stop = start + round((end - start) * done)
        fetched += range(start, stop)
        open_blocks -= set(range(start, stop))
        shares.give_back(stop, end)
        assert shares.blocks == len(open_blocks)
    assert not open_blocks
    assert shares.blocks == 0
    assert shares.take(10, 1) is None
    assert sorted(fetched) == sorted({block for start, end in made for block in range(start, end)})


def test_parts_are_about_as_large_as_wanted() -> None:
    for wanted, size in [(0, SMALLEST), (SMALLEST, SMALLEST), (50, 50), (LARGEST, LARGEST), (10_000, LARGEST)]:
        assert BlockQueue([(0, 100_000)]).take(wanted, 4) == (0, size), wanted


def test_towards_the_end_parts_get_smaller_so_that_all_end_together() -> None:
    shares = BlockQueue([(0, 640)])
    sizes = []
    while part := shares.take(LARGEST, 4):
        sizes.append(part[1] - part[0])
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (80, 1)
    assert sum(sizes) == 640


def test_one_worker_takes_half_of_what_is_left_at_most() -> None:
    assert BlockQueue([(0, 10)]).take(100, 1) == (0, 5)
    assert BlockQueue([(0, 1)]).take(100, 16) == (0, 1)
    assert BlockQueue([(0, 10)]).take(100, 0) == (0, 5)


def test_a_part_never_crosses_a_gap() -> None:
    shares = BlockQueue([(10, 12), (0, 3)])
    parts = []
    while part := shares.take(100, 1):
        parts.append(part)
    assert sorted(parts) == parts
    assert {block for start, end in parts for block in range(start, end)} == {0, 1, 2, 10, 11}


def test_nothing_given_back_is_nothing() -> None:
    shares = BlockQueue([])
    shares.give_back(5, 5)
    shares.give_back(5, 4)
    assert (shares.blocks, shares.take(1, 1)) == (0, None)


def test_many_threads_share_without_loss() -> None:
    shares = BlockQueue([(0, 3_000), (5_000, 6_000)])
    got: list[list[int]] = [[] for _ in range(8)]

    def work(me: int) -> None:
        while part := shares.take(20, 8):
            start, end = part
            middle = (start + end + 1) // 2
            got[me] += range(start, middle)
            shares.give_back(middle, end)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(block for mine in got for block in mine) == [*range(3_000), *range(5_000, 6_000)]


def test_given_back_by_the_last_worker_it_is_there_for_it_again() -> None:
    shares = BlockQueue([(0, 2)])
    part = shares.take(9, 1)
    assert part == (0, 1)
    shares.give_back(*part)
    assert shares.take(9, 1) == (0, 1)
