"""A size that no host confirmed is a hint: the hash decides, both ways, and the lock's size is said to be wrong."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from mirror import Mirror, behaviour

from gesso.models import receipts
from gesso.models.download import disk_space, unknown_length
from gesso.models.download.journal import Partial
from gesso.models.download.model_download import Stopped
from gesso.models.net.limits import BLOCK
from gesso.models.verify import check

from .fetching import LARGE, NAME, OTHER, PATH, SECOND, SMALL, Bench, model_of, options, pickled, vae
from .test_fetch import FAULTS, Watching, act, add_files, chosen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gesso.manifest.schema import Model
    from gesso.models.fetch import Outcome

LARGER, SMALLER = len(LARGE) + 3 * BLOCK, len(LARGE) - 3 * BLOCK
HINTS = pytest.mark.parametrize("hint", [LARGER, len(LARGE) + 1, len(LARGE) - 1, SMALLER, 1], ids=str)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "models")


def hinted(hint: int, *sources: str, data: bytes = LARGE, **more: Any) -> Model:
    return model_of(data, *sources, size=hint, **{"size_confirmed": False, **more})


def taken(bench: Bench, outcome: Outcome, hint: int, data: bytes = LARGE) -> None:
    """It came, and the lock's size is said to be wrong, by the outcome, by the last event and by every check."""
    bench.assert_fetched(outcome, data)
    said = (
        f"{hint:,} bytes said by the lock (unconfirmed), the file has {len(data):,}: its SHA-256 is right; "
        "`invoke lock` corrects it"
    )
    assert outcome.note == bench.events[-1].message == said
    assert bench.events[-1].as_json()["size"] == len(data)
    assert check(outcome.model, bench.folder, "full").remark == said
    again = bench.fetch(outcome.model)
    assert (again.state, again.note) == ("there", f"its receipt is valid; {said}")
    assert [event.message for event in bench.of("there")] == [said]


# ── right bytes are taken ──


@HINTS
@pytest.mark.parametrize(
    "name", ["healthy", "no-ranges", "no-ranges-chunked", "http10", "chunked", "total-star", "hub"]
)
def test_right_bytes_are_taken_whatever_the_size(mirror: Mirror, bench: Bench, name: str, hint: int) -> None:
    add_files(mirror).behave(PATH, behaviour(name))
    taken(bench, bench.fetch(hinted(hint, mirror.url(PATH))), hint)


@pytest.mark.parametrize("hint", [len(SMALL) * 2, len(SMALL) // 2, 10**9], ids=str)
def test_right_bytes_of_less_than_a_block(mirror: Mirror, bench: Bench, hint: int) -> None:
    model = hinted(hint, add_files(mirror, SMALL).url(PATH), data=SMALL)
    taken(bench, bench.fetch(model), hint, SMALL)
    assert sum(record.sent for record in mirror.requests) == len(SMALL)


@HINTS
def test_a_pickle_is_judged_by_its_hash_alone(mirror: Mirror, bench: Bench, hint: int) -> None:
    model = pickled(LARGE, add_files(mirror).url(PATH), size=hint, size_confirmed=False)
    taken(bench, bench.fetch(model), hint)


def test_a_right_hint_is_said_nothing_of(mirror: Mirror, bench: Bench) -> None:
    outcome = bench.fetch(hinted(len(LARGE), add_files(mirror).url(PATH)))
    bench.assert_fetched(outcome, LARGE)
    assert (outcome.note, bench.events[-1].message) == ("", "")


@HINTS
def test_progress_goes_by_the_size_of_the_source(mirror: Mirror, bench: Bench, hint: int) -> None:
    bench.fetch(hinted(hint, add_files(mirror).url(PATH)))
    assert bench.of("planned")[0].size == hint
    assert {event.size for event in bench.of("started") + bench.of("progress")} == {len(LARGE)}
    assert max(event.done for event in bench.events) == len(LARGE)


@HINTS
def test_the_announced_hash_is_the_locked_one(mirror: Mirror, bench: Bench, hint: int) -> None:
    mirror.hub("acme/models", {"vae.safetensors": LARGE})
    model = hinted(hint, f"https://huggingface.co{PATH}")
    taken(bench, bench.fetch(model, env={"HF_ENDPOINT": mirror.url("")}), hint)


@pytest.mark.parametrize("hint", [LARGER, SMALLER])
def test_another_announced_hash_is_refused_before_the_body(mirror: Mirror, bench: Bench, hint: int) -> None:
    mirror.hub("acme/models", {"vae.safetensors": OTHER})
    model = hinted(hint, f"https://huggingface.co{PATH}")
    error = bench.assert_failed(bench.fetch(model, env={"HF_ENDPOINT": mirror.url("")}), "wrong-hash")
    assert hashlib.sha256(OTHER).hexdigest() in error.message
    assert sum(record.sent for record in mirror.requests) <= BLOCK


def test_a_body_without_a_length_may_be_as_long_as_twice_the_hint(
    mirror: Mirror, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown_length, "MOST", BLOCK)
    add_files(mirror).behave(PATH, behaviour("no-ranges-chunked"))
    bench.assert_failed(bench.fetch(hinted(len(LARGE) // 4, mirror.url(PATH))), "oversized")
    taken(bench, bench.fetch(hinted(len(LARGE) - BLOCK, mirror.url(PATH))), len(LARGE) - BLOCK)


# ── interrupted, and gone on with ──


@pytest.mark.parametrize("name", ["slow", "no-ranges"])
@pytest.mark.parametrize("hint", [LARGER, SMALLER])
def test_stopped_and_gone_on_with(mirror: Mirror, bench: Bench, hint: int, name: str) -> None:
    stop = threading.Event()
    rules = [behaviour("slow", rate=BLOCK * 2)] + ([behaviour("no-ranges")] if name == "no-ranges" else [])
    add_files(mirror).behave(PATH, *rules)
    model = hinted(hint, mirror.url(PATH))
    watcher = Watching(bench, lambda event: stop.set() if event.done >= 2 * BLOCK else None)
    with pytest.raises(Stopped):
        watcher.fetch(model, options(connections=1), stop=stop)
    flags = bench.folder.journal(model.name, model.sha256).read_bytes()[4096:]
    missing = sum(min(BLOCK, len(LARGE) - at * BLOCK) for at, flag in enumerate(flags) if not flag)
    assert len(flags) == 6
    assert missing <= 4 * BLOCK
    mirror.reset()
    taken(bench, bench.fetch(model), hint)
    assert sum(record.sent for record in mirror.requests) == missing


def left_over(bench: Bench, model: Model, data: bytes, *blocks: int) -> None:
    """Leave a partial file for `data`'s own size with these blocks of it."""
    paths = (at(model.name, model.sha256) for at in (bench.folder.partial, bench.folder.journal))
    partial = Partial(*paths, sha256=model.sha256, size=len(data))
    for block in blocks:
        first, end = partial.bounds(block)
        partial.write(first, memoryview(data[first:end]))
        partial.mark(block)
    partial.close()


@HINTS
def test_all_of_it_is_here_already_and_no_source_is_asked(mirror: Mirror, bench: Bench, hint: int) -> None:
    model = hinted(hint, add_files(mirror).url(PATH))
    left_over(bench, model, LARGE, *range(6))
    taken(bench, bench.fetch(model), hint)
    assert mirror.requests == []


@pytest.mark.parametrize("data", [vae(9 * BLOCK), vae(2 * BLOCK + 5)], ids=["larger", "smaller"])
@pytest.mark.parametrize("blocks", [1, 2, 3], ids=str)
@pytest.mark.parametrize("hint", [LARGER, SMALLER])
def test_a_partial_file_for_another_size_is_given_up(
    mirror: Mirror, bench: Bench, data: bytes, blocks: int, hint: int
) -> None:
    """Another source gave it, or another file was there: begun at a place that this one may not even have."""
    model = hinted(hint, add_files(mirror).url(PATH))
    left_over(bench, model, data, *range(blocks))
    taken(bench, bench.fetch(model), hint)


def test_a_partial_file_beyond_the_end_of_the_right_one(mirror: Mirror, bench: Bench) -> None:
    model = hinted(LARGER, add_files(mirror).url(PATH))
    left_over(bench, model, vae(9 * BLOCK), *range(8))
    taken(bench, bench.fetch(model), LARGER)


@pytest.mark.parametrize(
    "head",
    [b"", b"garbage", b"[1]", b'{"size": "x"}', b'{"size": 1e99}', b"[" * 2000]
    + [json.dumps({"format": 1, "sha256": "?", "size": size, "block": BLOCK}).encode() for size in (-1, 0, 1, 10**18)],
)
def test_a_journal_without_sense(mirror: Mirror, bench: Bench, head: bytes) -> None:
    model = hinted(LARGER, add_files(mirror).url(PATH))
    left_over(bench, model, OTHER, 0, 1)
    text = head.replace(b"?", model.sha256.encode()).ljust(4096)
    bench.folder.journal(model.name, model.sha256).write_bytes(text + b"\1" * 6)
    taken(bench, bench.fetch(model), LARGER)


# ── two sources ──


@pytest.mark.parametrize("hint", [LARGER, SMALLER])
@pytest.mark.parametrize("size", [4 * BLOCK, 8 * BLOCK])
def test_the_first_source_has_another_file_of_another_size(mirror: Mirror, bench: Bench, size: int, hint: int) -> None:
    add_files(mirror).files[PATH] = vae(size, seed=7)
    outcome = bench.fetch(hinted(hint, mirror.url(PATH), mirror.url(SECOND, host="localhost")))
    taken(bench, outcome, hint)
    assert outcome.source == f"localhost:{mirror.port}"


@pytest.mark.parametrize("hint", [LARGER, SMALLER])
@pytest.mark.parametrize("size", [4 * BLOCK, 8 * BLOCK])
def test_the_first_source_of_another_size_dies_in_the_middle(
    mirror: Mirror, bench: Bench, size: int, hint: int
) -> None:
    add_files(mirror).files[PATH] = vae(size, seed=7)
    mirror.behave(PATH, behaviour("404", after=3))
    outcome = bench.fetch(hinted(hint, mirror.url(PATH), mirror.url(SECOND)), options(connections=1))
    taken(bench, outcome, hint)


QUICK = [
    name for name, case in FAULTS.items() if not case.stalls and name not in {"refuse", "redirect-to-ipv6-loopback"}
]


@pytest.mark.parametrize("hint", [LARGER, SMALLER])
@pytest.mark.parametrize("name", QUICK)
def test_after_every_fault_the_second_source_gives_it(
    mirror: Mirror, bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, hint: int
) -> None:
    monkeypatch.setattr(unknown_length, "MOST", 8 << 20)
    case = FAULTS[name]
    act(add_files(mirror), name, case)
    outcome = bench.fetch(hinted(hint, mirror.url(PATH), mirror.url(SECOND, host="localhost")), chosen(case))
    taken(bench, outcome, hint)


# ── wrong bytes are not ──


@pytest.mark.parametrize(
    ("hint", "why"),
    [(LARGER, "truncated"), (SMALLER, "oversized"), (1000 * len(LARGE), "stub"), (len(LARGE), "wrong-hash")],
)
@pytest.mark.parametrize("name", ["healthy", "no-ranges", "no-ranges-chunked"])
def test_wrong_bytes_are_called_what_they_are(
    mirror: Mirror, bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, hint: int, why: str
) -> None:
    add_files(mirror).files[PATH] = OTHER
    mirror.behave(PATH, behaviour(name))
    monkeypatch.setattr(disk_space, "RESERVE", 0)
    error = bench.assert_failed(bench.fetch(hinted(hint, mirror.url(PATH), tier="required")), why)
    assert f"sha256 {hashlib.sha256(OTHER).hexdigest()}, the lock says" in error.message
    if why != "wrong-hash":
        assert f"{len(OTHER):,} bytes, the lock says {hint:,} (unconfirmed)" in error.message
    assert error.exit_code == 5
    assert bench.leftovers() == []


def test_what_the_first_source_gave_is_not_said_of_the_second(mirror: Mirror, bench: Bench) -> None:
    add_files(mirror).files[PATH] = OTHER
    model = hinted(LARGER, mirror.url(PATH), mirror.url("/gone", host="localhost"))
    error = bench.assert_failed(bench.fetch(model), "not-found")
    first, second = error.message.split(f"localhost:{mirror.port}: ")
    assert "(unconfirmed)" in first
    assert second.startswith("HTTP 404")


def test_what_a_source_gave_at_first_is_not_said_of_what_it_gives_then(mirror: Mirror, bench: Bench) -> None:
    add_files(mirror).files[PATH] = OTHER
    mirror.behave(PATH, behaviour("404", after=len(OTHER) // BLOCK + 1))
    model = hinted(LARGER, mirror.url(PATH))
    error = bench.assert_failed(bench.fetch(model, options(connections=1)), "not-found", "truncated")
    assert ("HTTP 404" in error.message) == (error.why == "not-found")


@pytest.mark.parametrize("hint", [len(LARGE) * 60])
def test_the_incidents_stub_is_called_one(mirror: Mirror, bench: Bench, hint: int) -> None:
    """710 KB of 7.1 GB, and no host has confirmed those: what its header lacks is said beside it."""
    mirror.files[PATH] = bytes(range(7, 249, 11)) * 60
    error = bench.assert_failed(bench.fetch(hinted(hint, mirror.url(PATH))), "stub")
    assert f"{60 * 22:,} bytes, the lock says {hint:,} (unconfirmed)" in error.message


def test_a_stub_that_is_here_already_is_put_aside(mirror: Mirror, bench: Bench) -> None:
    model = hinted(len(LARGE) * 2, add_files(mirror).url(PATH))
    path = bench.path(model)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xfe" * 1000)
    bench.folder.root.mkdir(exist_ok=True)
    outcome = bench.fetch(model)
    assert outcome.state == "fetched"
    [put_aside] = bench.of("quarantined")
    assert put_aside.message.startswith("stub: 1,000 bytes, the lock says")


@HINTS
def test_a_right_file_that_is_here_already_is_left_alone(mirror: Mirror, bench: Bench, hint: int) -> None:
    """Somebody put it there, or an older lock had another size: no receipt, and the size is not the lock's."""
    model = hinted(hint, mirror.url(PATH))
    path = bench.path(model)
    path.parent.mkdir(parents=True)
    path.write_bytes(LARGE)
    outcome = bench.fetch(model)
    assert outcome.state == "there"
    assert f"the file has {len(LARGE):,}" in outcome.note
    assert receipts.is_valid(bench.folder, NAME, model.sha256)
    assert mirror.requests == []


@pytest.mark.parametrize(("size", "why"), [(LARGER, "truncated"), (SMALLER, "oversized"), (10**9, "stub")])
@pytest.mark.parametrize("name", ["healthy", "no-ranges"])
def test_a_confirmed_size_refuses_before_the_body(mirror: Mirror, bench: Bench, name: str, size: int, why: str) -> None:
    add_files(mirror).behave(PATH, behaviour(name))
    error = bench.assert_failed(bench.fetch(hinted(size, mirror.url(PATH), size_confirmed=True)), why)
    assert f"{len(LARGE):,} bytes, the lock says {size:,} (" in error.message + " ("
    assert "unconfirmed" not in error.message
    assert bench.leftovers() == []


# ── the disk ──


def disk_with(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    real = os.statvfs

    def statvfs(path: Any) -> Any:
        found = real(path)
        return os.statvfs_result((1, 1, free * 2, free, free, *tuple(found)[5:]))

    monkeypatch.setattr(disk_space, "RESERVE", 0)
    monkeypatch.setattr(os, "statvfs", statvfs)


def test_a_file_that_is_larger_than_planned_is_held_against_the_disk(
    mirror: Mirror, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_with(monkeypatch, len(LARGE) - 1)
    error = bench.assert_failed(bench.fetch(hinted(SMALLER, add_files(mirror).url(PATH))), "disk-full")
    assert f"has {len(LARGE):,} bytes, the lock says {SMALLER:,} (unconfirmed)" in error.message
    assert bench.leftovers() == []
    disk_with(monkeypatch, len(LARGE))
    taken(bench, bench.fetch(hinted(SMALLER, mirror.url(PATH))), SMALLER)


def test_a_source_whose_file_does_not_fit_does_not_keep_the_next_from_being_asked(
    mirror: Mirror, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_files(mirror).files[PATH] = vae(9 * BLOCK)
    disk_with(monkeypatch, len(LARGE) + 1)
    taken(bench, bench.fetch(hinted(SMALLER, mirror.url(PATH), mirror.url(SECOND))), SMALLER)


def test_what_a_partial_file_takes_need_not_be_free(
    mirror: Mirror, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All the room is set aside already for the file as it is: a hint that is larger must not ask for more."""
    model = hinted(LARGER, add_files(mirror).url(PATH))
    left_over(bench, model, LARGE, 0)
    disk_with(monkeypatch, 4096)
    taken(bench, bench.fetch(model), LARGER)


def test_events_say_it_to_scripts(mirror: Mirror, bench: Bench) -> None:
    bench.fetch(hinted(LARGER, add_files(mirror).url(PATH)))
    last: Mapping[str, Any] = json.loads(json.dumps(bench.events[-1].as_json()))
    assert last["kind"] == "done"
    assert "unconfirmed" in last["message"]
