"""The partial file and its journal: what was marked is there after any end, and what was not is fetched anew."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gesso.models.download import journal
from gesso.models.download.hashing import Follower
from gesso.models.download.journal import Partial, bytes_on_disk, set_aside
from gesso.models.net.limits import BLOCK
from tests.unit.models.making import descriptors, wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SHA = "ab" * 32
SIZE = 4 * BLOCK + 5  # five blocks, the last a short one


@pytest.fixture
def partial(tmp_path: Path) -> Iterator[Partial]:
    partial = opened(tmp_path)
    yield partial
    partial.close()


def opened(where: Path, sha256: str = SHA, size: int = SIZE) -> Partial:
    return Partial(where / ".a.part", where / ".a.part.journal", sha256=sha256, size=size)


def fill(partial: Partial, block: int) -> None:
    """Write a block, all bytes its number (from 1), and mark it."""
    first, end = partial.bounds(block)
    partial.write(first, memoryview(bytes([block + 1]) * (end - first)))
    partial.mark(block)


def test_a_new_one_has_nothing_and_its_space_is_set_aside(partial: Partial) -> None:
    assert (partial.blocks, partial.resumed, partial.bytes_done, partial.missing()) == (5, 0, 0, [(0, 5)])
    assert os.fstat(partial.fd).st_size == SIZE
    assert os.fstat(partial.fd).st_blocks * 512 >= SIZE


def test_folders_are_made(tmp_path: Path) -> None:
    opened(tmp_path / "models" / "vae").close()
    assert (tmp_path / "models" / "vae" / ".a.part").is_file()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=8))
def test_after_any_marks_a_reopened_one_has_just_these(
    tmp_path_factory: pytest.TempPathFactory, marks: list[int]
) -> None:
    """A kill -9 is a close without a word: nothing but what was written counts."""
    where = tmp_path_factory.mktemp("journal")
    first = opened(where)
    for block in marks:
        fill(first, block)
    again = opened(where)  # while the first is still open: nothing is written at a close
    assert bytes(again.done or b"") == bytes(block in marks for block in range(5))
    assert again.resumed == len(set(marks))
    assert again.bytes_done == sum(again.bounds(b)[1] - again.bounds(b)[0] for b in set(marks))
    missing = {block for start, end in again.missing() for block in range(start, end)}
    assert missing == set(range(5)) - set(marks)
    assert again.missing() == sorted(again.missing())
    for block in set(marks):
        start, end = again.bounds(block)
        assert again.has(start, end)
        assert os.pread(again.fd, end - start, start) == bytes([block + 1]) * (end - start)
    first.close()
    again.close()


def _cut_file(where: Path) -> None:
    os.truncate(where / ".a.part", SIZE - 1)


def _longer_file(where: Path) -> None:
    os.truncate(where / ".a.part", SIZE + 1)


def _empty_file(where: Path) -> None:
    os.truncate(where / ".a.part", 0)


def _no_file(where: Path) -> None:
    (where / ".a.part").unlink()


def _no_journal(where: Path) -> None:
    (where / ".a.part.journal").unlink()


def _cut_journal(where: Path) -> None:
    os.truncate(where / ".a.part.journal", 4096 + 4)


def _cut_head(where: Path) -> None:
    os.truncate(where / ".a.part.journal", 100)


def _longer_journal(where: Path) -> None:
    os.truncate(where / ".a.part.journal", 4096 + 6)


def _zeroed_head(where: Path) -> None:
    """A power cut can leave this: the size of a file, and zeros in it."""
    with (where / ".a.part.journal").open("r+b") as file:
        file.write(bytes(4096))


@pytest.mark.parametrize(
    "harm",
    [
        _cut_file, _longer_file, _empty_file, _no_file, _no_journal, _cut_journal, _cut_head, _longer_journal,
        _zeroed_head,
    ],
)  # fmt: skip
def test_whatever_does_not_fit_together_starts_over(tmp_path: Path, harm: object) -> None:
    first = opened(tmp_path)
    for block in range(5):
        fill(first, block)
    first.close()
    assert callable(harm)
    harm(tmp_path)
    again = opened(tmp_path)
    assert (again.resumed, again.missing(), os.fstat(again.fd).st_size) == (0, [(0, 5)], SIZE)
    again.close()
    kept = opened(tmp_path)
    assert kept.resumed == 0
    kept.close()


@pytest.mark.parametrize(("sha256", "size"), [("cd" * 32, SIZE), (SHA, SIZE - 1), (SHA, SIZE + 1), (SHA, SIZE + BLOCK)])
def test_what_is_to_become_another_file_starts_over(tmp_path: Path, sha256: str, size: int) -> None:
    first = opened(tmp_path)
    fill(first, 0)
    first.close()
    again = opened(tmp_path, sha256, size)
    assert (again.resumed, os.fstat(again.fd).st_size) == (0, size)
    again.close()


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=20), st.integers(0, 4101))
def test_no_change_to_the_head_of_a_journal_is_taken_for_ours(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    where = tmp_path_factory.mktemp("journal")
    first = opened(where)
    first.close()
    path = where / ".a.part.journal"
    before = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(noise)
    changed = path.read_bytes()
    again = opened(where)
    expected = sum(b == 1 for b in changed[4096:]) if changed[:4096] == before[:4096] and len(changed) == 4101 else 0
    assert again.resumed == expected
    again.close()


def test_a_block_is_said_to_be_there_only_by_its_mark(tmp_path: Path, partial: Partial) -> None:
    partial.write(0, memoryview(b"x" * BLOCK))
    assert partial.missing() == [(0, 5)]
    again = opened(tmp_path)
    assert again.resumed == 0
    again.close()


def test_a_write_may_take_several_steps(partial: Partial, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:3], at))
    partial.write(7, memoryview(b"0123456789"))
    assert os.pread(partial.fd, 10, 7) == b"0123456789"


def test_bounds_has_and_the_short_last_block(partial: Partial) -> None:
    assert partial.bounds(0) == (0, BLOCK)
    assert partial.bounds(4) == (4 * BLOCK, SIZE)
    fill(partial, 4)
    assert partial.bytes_done == 5
    fill(partial, 1)
    assert partial.bytes_done == 5 + BLOCK
    assert partial.missing() == [(0, 1), (2, 4)]
    assert partial.has(BLOCK, 2 * BLOCK)
    assert partial.has(4 * BLOCK + 2, SIZE)
    assert not partial.has(BLOCK, 2 * BLOCK + 1)
    assert not partial.has(BLOCK - 1, BLOCK)


def test_start_over_forgets_everything_at_once(tmp_path: Path, partial: Partial) -> None:
    for block in range(5):
        fill(partial, block)
    partial.start_over()
    assert (partial.bytes_done, partial.resumed, partial.missing()) == (0, 0, [(0, 5)])
    again = opened(tmp_path)
    assert again.resumed == 0
    again.close()


def test_close_leaves_both_files_and_discard_none(tmp_path: Path) -> None:
    partial = opened(tmp_path)
    partial.close()
    partial.close()  # and twice closes nobody else's descriptor
    assert len(list(tmp_path.iterdir())) == 2
    opened(tmp_path).discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [".a.part", ".a.part.journal"])
def test_a_link_in_their_place_is_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "theirs").write_bytes(b"precious")
    (tmp_path / name).symlink_to("theirs")
    before = descriptors()
    with pytest.raises(OSError, match=r".") as caught:
        opened(tmp_path)
    assert caught.value.errno == errno.ELOOP
    assert (tmp_path / "theirs").read_bytes() == b"precious"
    assert descriptors() == before


# ── space ──


def test_a_full_disk_shows_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_fallocate", lambda *_: errno.ENOSPC)
    before = descriptors()
    with pytest.raises(OSError, match="No space left"):
        opened(tmp_path)
    assert descriptors() == before


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_where_a_filesystem_cannot_set_space_aside_the_size_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(journal, "_fallocate", lambda *_: code)
    partial = opened(tmp_path)
    assert os.fstat(partial.fd).st_size == SIZE
    partial.close()


def test_nothing_is_set_aside_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_fallocate", lambda *_: errno.EINVAL)
    with (tmp_path / "a").open("w+b") as file:
        set_aside(file.fileno(), 0)
        assert os.fstat(file.fileno()).st_size == 0


def test_what_a_partial_file_takes_already_counts_only_with_its_journal(tmp_path: Path) -> None:
    path, log = tmp_path / ".a.part", tmp_path / ".a.part.journal"
    assert bytes_on_disk(path, log, SIZE) == 0
    partial = opened(tmp_path)
    assert bytes_on_disk(path, log, SIZE) == SIZE
    assert bytes_on_disk(path, log, 10) == 10
    partial.close()
    log.unlink()
    assert bytes_on_disk(path, log, SIZE) == 0
    path.unlink()
    assert bytes_on_disk(path, log, SIZE) == 0


# ── the hash that follows ──


def test_the_hash_follows_blocks_in_any_order(partial: Partial) -> None:
    follower = Follower(partial)
    for block in (3, 0, 4, 1, 2):
        fill(partial, block)
        follower.nudge()
    whole = b"".join(bytes([n + 1]) * BLOCK for n in range(4)) + bytes([5]) * 5
    assert follower.digest() == wanted(whole).sha256


def test_it_never_hashes_past_a_gap(partial: Partial) -> None:
    fill(partial, 0)
    fill(partial, 2)
    follower = Follower(partial)
    follower.close()
    assert follower.hashed in {0, BLOCK}  # closed before or after its first look: never beyond block 1


def test_what_is_hashed_is_what_the_file_holds(partial: Partial) -> None:
    """Whoever wrote it: a byte that changed on disk before it is hashed does not go unseen."""
    for block in range(5):
        fill(partial, block)
    os.pwrite(partial.fd, b"!", SIZE - 1)
    whole = b"".join(bytes([n + 1]) * BLOCK for n in range(4)) + bytes([5]) * 4 + b"!"
    assert Follower(partial).digest() == wanted(whole).sha256


def test_a_file_cut_under_the_hash_is_an_error_and_no_hang(partial: Partial) -> None:
    for block in range(5):
        fill(partial, block)
    os.ftruncate(partial.fd, BLOCK)
    with pytest.raises(OSError, match="truncated"):
        Follower(partial).digest()


# ── two at once, where locks are not real ──


def test_the_last_to_open_owns_it_and_the_other_writes_no_more(tmp_path: Path, partial: Partial) -> None:
    """Its file may be visible under its final name by now."""
    fill(partial, 0)
    other = opened(tmp_path)
    assert other.resumed == 1
    late: list[Callable[[], None]] = [
        lambda: partial.write(BLOCK, memoryview(b"late")),
        lambda: partial.mark(1),
        partial.settle,
    ]
    for step in late:
        with pytest.raises(OSError, match="another process") as caught:
            step()
        assert caught.value.errno == errno.EBUSY
    assert other.missing() == [(1, 5)]
    assert os.pread(other.fd, 4, BLOCK) == bytes(4)
    fill(other, 1)
    other.settle()
    other.close()


def test_a_disk_that_does_not_take_it_leaves_nothing_to_be_trusted(
    tmp_path: Path, partial: Partial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed fsync the kernel may give back bytes that were never written, and say yes to the next."""

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    fill(partial, 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            partial.settle()
    assert partial.missing() == [(0, 5)]
    again = opened(tmp_path)
    assert again.resumed == 0
    again.close()


def test_where_the_space_is_not_there_nothing_is_left_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_fallocate", lambda *_: errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        opened(tmp_path)
    assert list(tmp_path.iterdir()) == []
