"""Fetching from a server that misbehaves: at the final path is nothing, or exactly the right bytes.

The tables below have every behaviour that the mirror knows. What a fault ends with is the error's `why`; where it ends
well all the same (another way was found to the same bytes) there is none.
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import subprocess
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from mirror import BEHAVIOURS, Mirror, behaviour, names

from gesso.models import receipts
from gesso.models.download import unknown_length
from gesso.models.download.journal import BLOCK, Partial
from gesso.models.download.model_download import Stopped
from gesso.models.faults import ContentError, LocalError, SourceError
from gesso.models.fetch import fetch
from gesso.models.folder import Folder
from gesso.models.verify import check

from .fetching import (
    NAME,
    OTHER,
    PATH,
    SECOND,
    SIX,
    SMALL,
    Bench,
    options,
    pickled,
    safetensors,
    sockets_to,
    vae,
    wanted,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.manifest.schema import Model
    from gesso.models.events import Event
    from gesso.models.verify import Level

STALL = 0.5  # seconds, for servers that stall; all others get 10, however busy the machine is
OTHERS = {"/other": OTHER, "/other-small": vae(40_000, seed=2)}


@dataclass(frozen=True)
class Case:
    """What a fault ends with: any of `whys` (none: it comes all the same); `small`: the same for less than a block."""

    whys: tuple[str, ...] = ()
    small: tuple[str, ...] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    stalls: bool = False


def ends(*whys: str, small: tuple[str, ...] | None = None, stalls: bool = False, **params: Any) -> Case:
    return Case(whys, small, params, stalls)


COMES = ends()
# Parameters that make a slow server bearable; all of these must simply work.
ODD: dict[str, dict[str, Any]] = {
    "slow": {"rate": 4_000_000},
    "late": {"seconds": 0.1},
    "pause": {"at": 30_000, "seconds": 0.2},
    "shorter-range": {"most": 200_000},
}
PASSING: dict[str, Case] = {
    **dict.fromkeys(names("passing"), COMES),
    "stall-once": ends(stalls=True),
    # What a page shows is not a hiccup: somebody has to look at it. Asked again, it comes.
    "login-page-once": ends("html"),
}
FAULTS: dict[str, Case] = {
    # Something else than the file, in order of transport.
    "login-page": ends("html"),
    "login-page-as-binary": ends("html"),
    "login-page-same-size": ends("html"),
    "login-page-same-size-as-binary": ends("html"),
    "json-error": ends("json"),
    "lfs-pointer": ends("lfs-pointer"),
    "stub": ends("truncated", small=("oversized",)),  # "stub" where less than a hundredth is here: see the incident
    "empty": ends("stub"),
    "204": ends("refused-request"),
    "pickle": ends("pickle"),
    "pickle-same-size": ends("pickle"),
    "header-only": ends("stub"),
    "wrong-family": ends("wrong-family"),
    "other-file": ends("wrong-hash"),
    "flip": ends("wrong-hash"),
    "flip-other-etag": ends("wrong-hash"),
    # Refusals.
    "400": ends("refused-request"),
    "401": ends("needs-token"),
    "403": ends("forbidden"),
    "404": ends("not-found"),
    "410": ends("gone"),
    "416": ends("bad-range"),
    "451": ends("refused-request"),
    "429": ends("rate-limited"),
    **dict.fromkeys(("500", "502", "503", "504"), ends("server-error")),
    "429-for-ever": ends("rate-limited"),
    "503-for-ever": ends("server-error"),
    "401-gated": ends("gated"),
    "403-gated": ends("gated"),
    "401-repo": ends("not-found"),
    "404-repo": ends("not-found"),
    "404-revision": ends("not-found"),
    "404-entry": ends("not-found"),
    # Answers to ranges that do not fit the question: asked for in one piece, they serve.
    "range-answered-whole": COMES,
    "range-answered-200": ends("truncated", small=()),  # of a small file the part is the whole
    "range-wrong-start": COMES,
    "range-other-part": COMES,
    "range-lies": ends("malformed"),  # the header begins a byte too late
    "range-wrong-last": COMES,
    "range-wrong-total": ends("oversized", small=()),  # the last byte of a small file has a total that cannot be
    "range-no-header": COMES,
    "range-nonsense": COMES,
    "range-other-unit": COMES,
    "range-longer": COMES,
    "range-longer-chunked": COMES,
    "range-multipart": COMES,
    "206-unasked": COMES,  # we always ask for a part
    "206-unasked-part": COMES,
    # A file that changes: an entity tag can change while the bytes stay.
    "etag-changes": COMES,
    "modified-changes": COMES,
    "replaced": ends("malformed", small=()),  # asked for in one piece: the new file, and it is garbage
    "replaced-longer": ends("oversized", small=()),
    "replaced-shorter": ends("truncated", small=()),
    # Nothing tells but the hash; asked for once more, it is the new file from its first byte.
    "replaced-no-etag": ends("malformed", "wrong-hash", small=()),
    "replaced-silently": ends("malformed", "wrong-hash", small=()),
    "gzip": ends("encoded"),
    "gzip-only-said": ends("encoded"),
    # Broken connections.
    "cut": ends("cut-off"),
    "cut-reset": ends("cut-off"),
    "stall": ends("stalled", stalls=True),
    "stall-before-status": ends("stalled", stalls=True),
    "close-before-status": ends("cut-off"),
    "reset-before-status": ends("cut-off"),
    "trickle": ends("stalled", stalls=True, rate=20),  # faster than any timeout of a socket
    "trickle-head": ends("stalled", stalls=True, rate=20),
    "refuse": ends("unreachable", "cut-off", connections=50),  # as the kernel has it
    # Broken lengths.
    "length-missing": COMES,
    "length-low": ends("truncated"),
    "length-high": ends("oversized", small=("cut-off", "oversized")),
    "length-high-stall": ends("oversized", small=("stalled",), stalls=True),
    "length-negative": ends("bad-answer"),
    "length-nonsense": ends("bad-answer"),
    "length-zero": ends("stub"),
    "length-huge": ends("bad-answer"),
    "length-twice": ends("bad-answer"),
    "endless": ends("oversized", small=()),  # the part that was asked for is in it, and no more is read
    "endless-chunked": ends("oversized", small=()),
    "bad-chunks": ends("cut-off"),
    "bad-chunks-negative": ends("cut-off"),
    "bad-chunks-huge": ends("oversized", "cut-off", small=()),  # one endless chunk
    "chunks-unended": COMES,  # every byte is here, only the goodbye is not
    # Broken HTTP.
    "not-http": ends("not-http"),
    "no-status-line": ends("not-http"),
    "status-999": ends("refused-request"),
    "status-nonsense": ends("not-http"),
    "status-http9": ends("not-http"),
    "huge-header": ends("not-http"),
    "thousands-of-headers": ends("not-http"),
    # Redirects that lead nowhere good.
    "redirect-loop": ends("bad-redirect"),
    "redirect-endless": ends("bad-redirect"),
    "redirect-nowhere": ends("bad-redirect"),
    "redirect-empty": ends("bad-redirect"),
    "redirect-downgrade": ends("bad-redirect"),  # from plain http it is a loop; from https see below
    "redirect-to-private": ends("private-address"),
    "redirect-to-metadata": ends("private-address"),
    "redirect-to-mapped": ends("private-address"),
    "redirect-to-decimal": ends("private-address"),
    "redirect-to-userinfo": ends("private-address"),
    "redirect-to-ipv6-loopback": ends("unreachable"),  # it is this machine; nobody is at home
    "redirect-to-dead-https": ends("unreachable"),
    "redirect-to-file": ends("insecure"),
    "redirect-to-ftp": ends("insecure"),
    "redirect-to-data": ends("insecure"),
}
ONCE: dict[str, dict[str, Any]] = {"refuse": {"connections": 1}}  # or the next source would be refused as well
# Where one bad answer is followed by good ones, the same source gives the file in the same run.
RECOVERS = {
    "cut-off", "stalled", "unreachable", "rate-limited", "server-error", "wrong-hash", "bad-range", "changed",
}  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "models")


def stocked(mirror: Mirror, data: bytes = SIX) -> Mirror:
    mirror.files |= {PATH: data, SECOND: data, **OTHERS}
    return mirror


def act(mirror: Mirror, name: str, case: Case, data: bytes = SIX, **more: Any) -> None:
    params = case.params
    if name == "other-file":
        params = {"path": "/other" if data is SIX else "/other-small"}
    mirror.behave(PATH, behaviour(name, **params | more))


def chosen(case: Case, retries: int = 1) -> Any:
    return options(STALL, retries=retries) if case.stalls else options()


def test_the_tables_have_every_behaviour() -> None:
    assert set(FAULTS) | set(PASSING) | set(names("odd")) == set(BEHAVIOURS)
    assert set(PASSING) == set(names("passing"))
    assert set(FAULTS) == set(names("fault"))
    assert sum(bool(case.whys) for case in FAULTS.values()) >= 45


SIZES = [pytest.param(SIX, id="six-blocks"), pytest.param(SMALL, id="small")]


# ── no false alarm ──


@pytest.mark.parametrize("data", SIZES)
@pytest.mark.parametrize("name", names("odd"))
def test_what_is_odd_and_legal_simply_works(mirror: Mirror, bench: Bench, name: str, data: bytes) -> None:
    stocked(mirror, data).behave(PATH, behaviour(name, **ODD.get(name, {})))
    outcome = bench.fetch(wanted(data, mirror.url(PATH)))
    bench.fetched(outcome, data)
    assert not bench.of("switched")
    assert not bench.of("quarantined")
    assert name == "crowded" or not bench.of("retrying")
    assert sockets_to(mirror.port) == 0
    assert outcome.received == len(data)
    before = bench.path(outcome.model).stat()
    assert bench.fetch(outcome.model).state == "there"
    assert bench.path(outcome.model).stat() == before


# ── each fault ──


@pytest.mark.parametrize("data", SIZES)
@pytest.mark.parametrize("name", FAULTS)
def test_alone(mirror: Mirror, bench: Bench, name: str, data: bytes) -> None:
    case = FAULTS[name]
    act(stocked(mirror, data), name, case, data)
    outcome = bench.fetch(wanted(data, mirror.url(PATH)), chosen(case, retries=0))
    whys = case.whys if data is SIX or case.small is None else case.small
    if whys:
        error = bench.failed(outcome, *whys)
        assert f"127.0.0.1:{mirror.port}: " in error.message
    else:
        bench.fetched(outcome, data)
    assert sockets_to(mirror.port) == 0


@pytest.mark.parametrize("name", FAULTS)
def test_with_a_healthy_second_source(mirror: Mirror, bench: Bench, name: str) -> None:
    case = FAULTS[name]
    act(stocked(mirror), name, case, SIX, **ONCE.get(name, {}))
    second = mirror.url(SECOND, host="localhost")
    outcome = bench.fetch(wanted(SIX, mirror.url(PATH), second), chosen(case))
    bench.fetched(outcome, SIX)
    if case.whys:
        [switched] = bench.of("switched")
        assert switched.source == outcome.source == f"localhost:{mirror.port}"
        host, reason = switched.message.split(": ", 1)
        assert host == f"127.0.0.1:{mirror.port}"
        assert len(reason) > 10
    else:
        assert not bench.of("switched")


@pytest.mark.parametrize("name", [name for name in FAULTS if FAULTS[name].whys])
def test_a_fault_that_passes(mirror: Mirror, bench: Bench, name: str) -> None:
    case = FAULTS[name]
    act(stocked(mirror), name, case, SIX, times=1, **ONCE.get(name, {}))
    model = wanted(SIX, mirror.url(PATH))
    outcome = bench.fetch(model, chosen(case, retries=2))
    if outcome.state == "failed":
        assert not RECOVERS & set(case.whys) or name.endswith("-for-ever")
        bench.failed(outcome, *case.whys)
        outcome = bench.fetch(model)
    bench.fetched(outcome, SIX)


@pytest.mark.parametrize("data", SIZES)
@pytest.mark.parametrize("name", PASSING)
def test_what_passes_by_itself(mirror: Mirror, bench: Bench, name: str, data: bytes) -> None:
    case = PASSING[name]
    act(stocked(mirror, data), name, case, data)
    model = wanted(data, mirror.url(PATH))
    outcome = bench.fetch(model, chosen(case, retries=2))
    if case.whys:
        bench.failed(outcome, *case.whys)
        outcome = bench.fetch(model)
    bench.fetched(outcome, data)


@pytest.mark.parametrize("name", ["429-for-ever", "503-for-ever", "404", "410", "403-gated", "login-page", "pickle"])
def test_what_cannot_help_is_not_tried(mirror: Mirror, bench: Bench, name: str) -> None:
    act(stocked(mirror), name, FAULTS[name])
    bench.failed(bench.fetch(wanted(SIX, mirror.url(PATH))), *FAULTS[name].whys)
    assert len(mirror.requests) == 1


# ── faults in the middle ──


MIDDLE = {
    name: FAULTS[name]
    for name in (
        "cut", "cut-reset", "stall", "trickle", "stall-before-status", "close-before-status", "reset-before-status",
        "500", "503", "429", "flip", "404", "403", "gzip", "range-lies", "range-wrong-start", "range-answered-whole",
        "range-no-header", "range-multipart", "bad-chunks", "login-page", "not-http", "etag-changes", "length-twice",
    )
}  # fmt: skip


@pytest.mark.parametrize("name", MIDDLE)
def test_in_the_middle_then_a_mirror(mirror: Mirror, bench: Bench, name: str) -> None:
    """The first block is good; what comes later is not, and the mirror makes it right."""
    case = MIDDLE[name]
    act(stocked(mirror), name, case, not_first=True)
    model = wanted(SIX, mirror.url(PATH), mirror.url(SECOND, host="localhost"))
    bench.fetched(bench.fetch(model, chosen(case)), SIX)


@pytest.mark.parametrize("name", MIDDLE)
def test_in_the_middle_and_then_never_again(mirror: Mirror, bench: Bench, name: str) -> None:
    case = MIDDLE[name]
    act(stocked(mirror), name, case, not_first=True, times=2)
    model = wanted(SIX, mirror.url(PATH))
    for _ in range(2):  # where it gives up at once, each run meets one of the two
        outcome = bench.fetch(model, chosen(case, retries=2))
        if outcome.state == "fetched":
            break
        assert not RECOVERS & set(case.whys)
    else:
        outcome = bench.fetch(model)
    bench.fetched(outcome, SIX)


def test_wrong_bytes_of_one_source_are_not_mixed_into_the_next(mirror: Mirror, bench: Bench) -> None:
    """The primary gives flipped bytes and then dies; the mirror gives the rest, then everything."""
    model = wanted(SIX, stocked(mirror).url(PATH), mirror.url(SECOND, host="localhost"))
    mirror.behave(PATH, behaviour("flip", at=200_000), behaviour("404", after=3))
    outcome = bench.fetch(model, options(connections=1))
    bench.fetched(outcome, SIX)
    served = sum(record.sent for record in mirror.requests if record.path == SECOND)
    assert served <= 2 * len(SIX)  # what was missing, and once everything


def test_an_unmeasured_part_is_watched_too(mirror: Mirror, bench: Bench) -> None:
    stocked(mirror).behave(PATH, behaviour("no-ranges-chunked"), behaviour("trickle", rate=20))
    bench.failed(bench.fetch(wanted(SIX, mirror.url(PATH), size=None), options(STALL, retries=0)), "stalled")


def test_interim_answers_without_end(mirror: Mirror, bench: Bench) -> None:
    stocked(mirror).behave(PATH, behaviour("not-http", text="HTTP/1.1 103 Early Hints\r\n\r\n" * 20_000))
    bench.failed(bench.fetch(wanted(SIX, mirror.url(PATH))), "not-http")


def test_a_redirect_to_what_is_no_address(mirror: Mirror, bench: Bench) -> None:
    for to in ("http://[::1/x", "https://[nonsense]/x", "https://host:port/x", "https://host:99999/", "//", "https://"):
        stocked(mirror).behave(PATH, behaviour("redirect", to=to))
        bench.failed(bench.fetch(wanted(SIX, mirror.url(PATH))), "bad-redirect", "insecure", "private-address")


@pytest.mark.parametrize(
    "to",
    [
        "http://2130706433:{port}/x",  # 127.0.0.1 as a number
        "http://0x7f.1:{port}/x",
        "http://127.1:{port}/x",
        "http://0.0.0.0:{port}/x",
        "http://127.0.0.1.nip.io/x",
        "http://127.0.0.1:{port}@10.0.0.1/x",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00::1]/x",
        "HTTP://10.0.0.1/x",
        "\thttp://10.0.0.1/x",
        "gopher://127.0.0.1/x",
        "javascript:alert(1)",
        "file:/etc/passwd",
        "FILE:///etc/passwd",
    ],
)
def test_a_redirect_leads_to_no_address_that_was_not_meant(mirror: Mirror, bench: Bench, to: str) -> None:
    stocked(mirror).behave(PATH, behaviour("redirect", to=to.format(port=mirror.port)))
    outcome = bench.fetch(wanted(SIX, mirror.url(PATH)))
    bench.failed(outcome, "private-address", "insecure", "bad-redirect")
    assert len(mirror.requests) == 1


# ── a size that nobody has locked ──


@pytest.mark.parametrize("data", SIZES)
@pytest.mark.parametrize(
    "name", ["healthy", "no-ranges", "no-ranges-chunked", "http10", "chunked", "total-star", "hub"]
)
def test_an_unknown_size(mirror: Mirror, bench: Bench, name: str, data: bytes) -> None:
    stocked(mirror, data).behave(PATH, behaviour(name))
    bench.fetched(bench.fetch(wanted(data, mirror.url(PATH), size=None)), data)


@pytest.mark.parametrize("lengths", ["", "no-ranges-chunked"])
@pytest.mark.parametrize("name", ["flip", "other-file", "header-only", "login-page", "cut", "gzip", "endless-chunked"])
def test_an_unknown_size_and_a_bad_first_source(
    mirror: Mirror, bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, lengths: str
) -> None:
    """Whatever size the first one had: the second's is another."""
    monkeypatch.setattr(unknown_length, "MOST", 8 << 20)
    stocked(mirror)
    more = {"path": "/other"} if name == "other-file" else {}
    mirror.behave(PATH, *([behaviour(lengths)] if lengths else []), behaviour(name, **more))
    model = wanted(SIX, mirror.url(PATH), mirror.url(SECOND), size=None)
    bench.fetched(bench.fetch(model), SIX)


def test_an_unknown_size_a_shorter_file_then_the_right_one(mirror: Mirror, bench: Bench) -> None:
    stocked(mirror).files[PATH] = vae(3 * BLOCK)
    bench.fetched(bench.fetch(wanted(SIX, mirror.url(PATH), mirror.url(SECOND), size=None)), SIX)


def test_an_unknown_size_a_part_then_a_stream_then_parts(mirror: Mirror, bench: Bench) -> None:
    stocked(mirror).files |= {"/third": SIX}
    mirror.behave(PATH, behaviour("404", not_first=True))
    mirror.behave(SECOND, behaviour("no-ranges-chunked"), behaviour("flip"))
    model = wanted(SIX, mirror.url(PATH), mirror.url(SECOND), mirror.url("/third"), size=None)
    bench.fetched(bench.fetch(model), SIX)


# ── what other runs left ──


def left_over(bench: Bench, model: Model, data: bytes, *blocks: int) -> None:
    """Leave a partial file with these blocks of `data`, and a journal that says so."""
    assert model.size is not None
    paths = (at(model.name, model.sha256) for at in (bench.folder.partial, bench.folder.journal))
    partial = Partial(*paths, sha256=model.sha256, size=model.size)
    for block in blocks:
        first, end = partial.bounds(block)
        partial.write(first, memoryview(data[first:end]))
        partial.mark(block)
    partial.close()


@pytest.mark.parametrize("blocks", [(0,), (3,), (0, 1, 2), (1, 5), (0, 1, 2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("name", ["healthy", "no-ranges", "total-star"])
def test_a_partial_file_of_right_bytes_is_gone_on_with(
    mirror: Mirror, bench: Bench, name: str, blocks: tuple[int, ...]
) -> None:
    stocked(mirror).behave(PATH, behaviour(name))
    model = wanted(SIX, mirror.url(PATH))
    left_over(bench, model, SIX, *blocks)
    bench.fetched(bench.fetch(model), SIX)
    here = sum(min(BLOCK, len(SIX) - block * BLOCK) for block in blocks)
    if name != "no-ranges":
        assert sum(record.sent for record in mirror.requests) == len(SIX) - here
    if len(blocks) == 6:
        assert mirror.requests == []


@pytest.mark.parametrize("blocks", [(0,), (3,), (0, 1, 2), (1, 5), (0, 1, 2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("name", ["healthy", "no-ranges", "hub"])
@pytest.mark.parametrize(
    "bad", [OTHER, bytes(len(SIX)), b"<!DOCTYPE html>".ljust(len(SIX))], ids=["other", "0", "html"]
)
def test_a_partial_file_of_wrong_bytes_is_started_over_once(
    mirror: Mirror, bench: Bench, bad: bytes, name: str, blocks: tuple[int, ...]
) -> None:
    stocked(mirror).behave(PATH, behaviour(name))
    model = wanted(SIX, mirror.url(PATH))
    left_over(bench, model, bad, *blocks)
    bench.fetched(bench.fetch(model), SIX)
    assert len(bench.of("retrying")) <= 1
    assert sum(record.sent for record in mirror.requests) <= 2 * len(SIX)


def test_a_partial_file_that_is_bad_and_a_source_that_is_too(mirror: Mirror, bench: Bench) -> None:
    """A bad source must not cost the good bytes that are here."""
    stocked(mirror).behave(PATH, behaviour("login-page"))
    model = wanted(SIX, mirror.url(PATH))
    left_over(bench, model, SIX, 0, 1, 2)
    bench.failed(bench.fetch(model), "html")
    mirror.reset()
    bench.fetched(bench.fetch(model), SIX)
    assert sum(record.sent for record in mirror.requests) == len(SIX) - 3 * BLOCK


def test_a_journal_without_sense(mirror: Mirror, bench: Bench) -> None:
    model = wanted(SIX, stocked(mirror).url(PATH))
    for text in (b"", b"garbage", b"\1" * 5000, b"{}"):
        left_over(bench, model, OTHER, 0, 1)
        bench.folder.journal(model.name, model.sha256).write_bytes(text)
        bench.fetched(bench.fetch(model), SIX)
        bench.path(model).unlink()


# ── resuming ──


def missing_of(bench: Bench, model: Model) -> int:
    """Give how many bytes the journal says are missing."""
    flags = bench.folder.journal(model.name, model.sha256).read_bytes()[4096:]
    assert len(flags) == 6
    return sum(min(BLOCK, len(SIX) - at * BLOCK) for at, flag in enumerate(flags) if not flag)


@pytest.mark.parametrize("name", ["slow", "no-ranges"])
def test_stopped_and_gone_on_with(mirror: Mirror, bench: Bench, name: str) -> None:
    stop = threading.Event()
    rules = [behaviour("slow", rate=BLOCK * 2)] + ([behaviour("no-ranges")] if name == "no-ranges" else [])
    stocked(mirror).behave(PATH, *rules)
    model = wanted(SIX, mirror.url(PATH))
    watcher = Watching(bench, lambda event: stop.set() if event.done >= 2 * BLOCK else None)
    with pytest.raises(Stopped):
        watcher.fetch(model, options(connections=1), stop=stop)
    assert sockets_to(mirror.port) == 0
    assert bench.bytes_of(model) is None
    missing = missing_of(bench, model)
    assert missing <= 4 * BLOCK
    mirror.reset()
    bench.fetched(bench.fetch(model), SIX)
    assert sum(record.sent for record in mirror.requests) == missing


class Watching(Bench):
    """A bench that does something at every event."""

    def __init__(self, bench: Bench, then: Callable[[Event], None]) -> None:
        super().__init__(bench.folder.root)
        self.events = _Heard(then)


class _Heard(list["Event"]):
    def __init__(self, then: Callable[[Any], None]) -> None:
        super().__init__()
        self._then = then

    def append(self, event: Event) -> None:
        super().append(event)
        self._then(event)


@pytest.mark.parametrize("name", ["404", "cut", "reset-before-status", "503-for-ever", "gzip"])
def test_a_run_that_failed_in_the_middle_is_gone_on_with(mirror: Mirror, bench: Bench, name: str) -> None:
    stocked(mirror).behave(PATH, behaviour(name, after=3))
    model = wanted(SIX, mirror.url(PATH))
    bench.failed(bench.fetch(model, options(connections=1)), *FAULTS[name].whys)
    missing = missing_of(bench, model)
    assert 0 < missing <= 3 * BLOCK + BLOCK
    mirror.reset()
    bench.fetched(bench.fetch(model), SIX)
    assert sum(record.sent for record in mirror.requests) == missing


def test_a_fetch_that_is_done_is_never_touched_again(mirror: Mirror, bench: Bench) -> None:
    model = wanted(SIX, stocked(mirror).url(PATH))
    bench.fetched(bench.fetch(model), SIX)
    before = bench.path(model).stat()
    mirror.behave("*", "404")
    mirror.clear_log()
    assert bench.fetch(model).state == "there"
    receipts.forget(bench.folder, model.name)  # then it is hashed, and still not touched
    assert bench.fetch(model).state == "there"
    assert receipts.holds(bench.folder, model.name, model.sha256)
    after = bench.path(model).stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    assert mirror.requests == []


def test_an_address_that_expires_in_mid_fetch_is_resolved_again(mirror: Mirror, bench: Bench) -> None:
    stocked(mirror).behave(PATH, behaviour("expiring", uses=2))
    bench.fetched(bench.fetch(wanted(SIX, mirror.url(PATH))), SIX)
    asked = [record for record in mirror.requests if record.path == PATH]
    assert len(asked) >= 3
    assert any(record.status == 403 for record in mirror.requests)
    assert not bench.of("retrying")


# ── who may see a token ──


TOKENS = {"HF_TOKEN": "hf_veryverysecret", "CIVITAI_TOKEN": "civ_veryverysecret"}


def never_told(bench: Bench, outcome: Any) -> None:
    """No token in any event, message or file."""
    said = repr(bench.events) + repr(outcome) + str(outcome.error)
    said += "".join(str(path) for path in bench.folder.root.rglob("*"))
    said += "".join(p.read_text() for p in bench.folder.state.rglob("*") if p.is_file() and p.stat().st_size < 1 << 16)
    assert "veryverysecret" not in said
    assert "Bearer" not in said


def authorizations(mirror: Mirror) -> dict[str, set[str]]:
    """Give what came with requests for each kind of path, by the host that was asked."""
    found: dict[str, set[str]] = {}
    for record in mirror.requests:
        found.setdefault(record.headers["host"], set()).add(record.headers.get("authorization", ""))
    return found


@pytest.mark.parametrize("name", ["healthy", "401", "403", "redirect-elsewhere", "expiring", "login-page", "cut"])
def test_a_token_goes_to_nobody_it_does_not_belong_to(mirror: Mirror, bench: Bench, name: str) -> None:
    stocked(mirror).behave(PATH, behaviour(name))
    never_told(bench, bench.fetch(wanted(SIX, mirror.url(PATH)), env=TOKENS))
    assert all(seen == {""} for seen in authorizations(mirror).values())


@pytest.mark.parametrize("name", ["redirect-elsewhere", "redirect-elsewhere-307", "expiring", "hub"])
def test_a_token_is_dropped_on_the_way_to_another_host(mirror: Mirror, bench: Bench, name: str) -> None:
    stocked(mirror).behave(PATH, behaviour(name))
    model = wanted(SIX, f"https://huggingface.co{PATH}")
    outcome = bench.fetch(model, env=TOKENS | {"HF_ENDPOINT": mirror.url("")})
    bench.fetched(outcome, SIX)
    assert outcome.source == "huggingface.co"
    never_told(bench, outcome)
    assert authorizations(mirror) == {
        f"127.0.0.1:{mirror.port}": {f"Bearer {TOKENS['HF_TOKEN']}"},
        f"localhost:{mirror.port}": {""},
    }


def test_a_token_is_dropped_on_the_way_to_another_port(mirror: Mirror, bench: Bench) -> None:
    with Mirror({PATH: SIX}) as other:
        stocked(mirror).behave(PATH, behaviour("redirect", to=other.url(PATH)))
        model = wanted(SIX, f"https://huggingface.co{PATH}")
        bench.fetched(bench.fetch(model, env=TOKENS | {"HF_ENDPOINT": mirror.url("")}), SIX)
        assert authorizations(other) == {f"127.0.0.1:{other.port}": {""}}


def test_a_token_stays_on_the_way_to_the_same_origin(mirror: Mirror, bench: Bench) -> None:
    stocked(mirror).behave(PATH, behaviour("redirect-chain"))
    model = wanted(SIX, f"https://huggingface.co{PATH}")
    bench.fetched(bench.fetch(model, env=TOKENS | {"HF_ENDPOINT": mirror.url("")}), SIX)
    assert authorizations(mirror) == {f"127.0.0.1:{mirror.port}": {f"Bearer {TOKENS['HF_TOKEN']}"}}


# ── Hugging Face ──


def hugging(mirror: Mirror, bench: Bench, token: str = "", data: bytes = SIX, **front: Any) -> Any:
    """Fetch from a front like Hugging Face's."""
    mirror.hub("acme/models", {"vae.safetensors": data}, **front)
    env = {"HF_ENDPOINT": mirror.url("")} | ({"HF_TOKEN": token} if token else {})
    return bench.fetch(wanted(SIX, f"https://huggingface.co{PATH}"), env=env)


def test_a_gated_file(mirror: Mirror, bench: Bench) -> None:
    error = bench.failed(hugging(mirror, bench, gated=True), "gated", "needs-token")
    assert f"accept the licence at {mirror.url('/acme/models')}, then set HF_TOKEN" in error.next_step
    error = bench.failed(hugging(mirror, bench, "no-licence", gated=True), "gated")
    assert error.next_step == f"accept the licence at {mirror.url('/acme/models')}"
    bench.failed(hugging(mirror, bench, "bad", gated=True), "gated", "bad-token")
    outcome = hugging(mirror, bench, "good", gated=True)
    bench.fetched(outcome, SIX)


def test_a_token_that_is_not_accepted(mirror: Mirror, bench: Bench) -> None:
    stocked(mirror).behave(PATH, "401")
    model = wanted(SIX, f"https://huggingface.co{PATH}")
    outcome = bench.fetch(model, env=TOKENS | {"HF_ENDPOINT": mirror.url("")})
    error = bench.failed(outcome, "bad-token")
    assert "HF_TOKEN" in error.message
    never_told(bench, outcome)


def test_a_login_for_which_there_is_no_token(mirror: Mirror, bench: Bench) -> None:
    stocked(mirror).behave(SECOND, "401")
    error = bench.failed(bench.fetch(wanted(SIX, mirror.url(SECOND)), env=TOKENS), "needs-token")
    assert "another source" in error.next_step


@pytest.mark.parametrize("lfs", [True, False])
def test_it_comes_from_a_front_like_hugging_faces(mirror: Mirror, bench: Bench, *, lfs: bool) -> None:
    bench.fetched(hugging(mirror, bench, lfs=lfs), SIX)


@pytest.mark.parametrize("limits", [{"uses": 2}, {"seconds": 0.05}])
def test_its_addresses_expire(mirror: Mirror, bench: Bench, limits: dict[str, Any]) -> None:
    """After 50 ms an address is old; every new one is good for a while, so it comes in the end."""
    mirror.behave("/cdn/*", behaviour("late", seconds=0.02))
    bench.fetched(hugging(mirror, bench, **limits), SIX)


def test_another_file_is_known_by_its_announced_hash_before_its_body(mirror: Mirror, bench: Bench) -> None:
    error = bench.failed(hugging(mirror, bench, data=OTHER), "wrong-hash")
    assert hashlib.sha256(OTHER).hexdigest() in error.message
    assert sum(record.sent for record in mirror.requests) <= BLOCK


def test_an_announced_hash_that_lies(mirror: Mirror, bench: Bench) -> None:
    bench.failed(hugging(mirror, bench, linked={"X-Linked-ETag": f'"{"0" * 64}"'}), "wrong-hash")


@pytest.mark.parametrize("said", ["", '"short"', '"' + "g" * 64 + '"', '"' + "0" * 63 + '"'])
def test_an_announced_hash_that_is_none(mirror: Mirror, bench: Bench, said: str) -> None:
    bench.fetched(hugging(mirror, bench, linked={"X-Linked-ETag": said}), SIX)


def test_an_endpoint_that_is_no_address(bench: Bench) -> None:
    for endpoint in ("http://[::1", "http://127.0.0.1:port", "ftp://127.0.0.1", "nonsense", "http://10.0.0.1"):
        model = wanted(SIX, f"https://huggingface.co{PATH}")
        outcome = bench.fetch(model, env=TOKENS | {"HF_ENDPOINT": endpoint})
        bench.failed(outcome, "insecure")
        never_told(bench, outcome)


# ── the incident ──


JUGGERNAUT = "checkpoints/Juggernaut-XL-v9.safetensors"
STUB = 710_000
SDXL = {
    "model.diffusion_model.input_blocks.0.0.weight": [320, 4, 3, 3],
    "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": [8, 2048],
    "model.diffusion_model.label_emb.0.0.weight": [1, 2816],
    "model.diffusion_model.out.2.weight": [4, 2, 3, 3],
    "first_stage_model.decoder.conv_in.weight": [2, 4, 3, 3],
}


@pytest.fixture(scope="module")
def juggernaut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a checkpoint of which 710 KB are less than a hundredth."""
    path = tmp_path_factory.mktemp("incident") / "juggernaut"
    with path.open("wb") as file:
        file.write(safetensors(SDXL, 80_000_000, data=False))
        file.truncate(80_000_000)
    return path


@pytest.mark.parametrize("bad", ["garbage", "header", "page", "zeros"])
def test_the_incident(mirror: Mirror, bench: Bench, juggernaut: Path, bad: str) -> None:
    """A 710 KB stub is in place already: it is found at every level, put aside, fetched again, and right at the end."""
    mirror.files[PATH] = juggernaut
    with juggernaut.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        start = file.read(STUB)
    stub = {
        "garbage": bytes(range(7, 249, 11)) * (STUB // 22), "header": start, "page": b"<html>".ljust(STUB),
        "zeros": bytes(STUB),
    }[bad]  # fmt: skip
    model = wanted(b"", mirror.url(PATH), name=JUGGERNAUT, kind="checkpoint", sha256=digest, size=80_000_000)
    path = bench.path(model)
    path.parent.mkdir(parents=True)
    path.write_bytes(stub)
    levels: tuple[Level, ...] = ("fast", "header", "full")
    for level in levels:
        verdict = check(model, bench.folder, level)
        assert verdict.bad, level
        assert verdict.status == ("html" if bad == "page" else "stub")
    # A receipt that somebody wrote for other bytes makes it no better.
    receipt = bench.folder.receipt(model.name)
    receipt.parent.mkdir(parents=True, exist_ok=True)
    receipt.write_text(json.dumps({"format": 1, "sha256": digest, "size": 80_000_000}))
    outcome = bench.fetch(model)
    assert outcome.state == "fetched", outcome.error
    [put_aside] = bench.of("quarantined")
    assert "stub" in put_aside.message or bad == "page"
    [kept] = bench.folder.quarantine.iterdir()
    assert kept.read_bytes() == stub
    assert check(model, bench.folder, "full").ok
    assert receipts.holds(bench.folder, model.name, digest)


def test_the_incident_and_no_source(mirror: Mirror, bench: Bench) -> None:
    """Better nothing than a stub."""
    model = wanted(SIX, mirror.url(PATH))
    bench.path(model).parent.mkdir(parents=True)
    bench.path(model).write_bytes(SIX[: len(SIX) // 2])
    bench.failed(bench.fetch(model), "not-found")
    assert len(list(bench.folder.quarantine.iterdir())) == 1


def test_a_vae_of_the_wrong_channels_is_refused_before_its_body(mirror: Mirror, bench: Bench, tmp_path: Path) -> None:
    shapes = {"decoder.conv_in.weight": [512, 16, 3, 3], "encoder.conv_in.weight": [128, 3, 3, 3]}
    head = safetensors(shapes, 167_000_000, data=False)
    path = tmp_path / "vae16"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(167_000_000)
    mirror.files[PATH] = path
    model = wanted(b"", mirror.url(PATH), sha256="0" * 64, size=167_000_000)
    assert model.name == "vae/sdxl_vae_fp16.safetensors"
    error = bench.failed(bench.fetch(model), "wrong-family")
    assert "4 latent channels" in error.message
    assert "16" in error.message
    assert len(mirror.requests) <= 2
    assert sum(record.sent for record in mirror.requests) <= 1_500_000
    assert bench.leftovers() == []


# ── files of other kinds and sizes ──


@pytest.mark.parametrize("size", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
@pytest.mark.parametrize("name", ["healthy", "no-ranges", "no-ranges-chunked", "http10", "total-star", "flip"])
def test_sizes(mirror: Mirror, bench: Bench, size: int, name: str) -> None:
    data = b"\x80" + os.urandom(size - 1)  # a pickle; some others begin as a server's message does
    mirror.files[PATH] = data
    mirror.behave(PATH, name)
    outcome = bench.fetch(pickled(data, mirror.url(PATH)))
    if name == "flip":
        bench.failed(outcome, "wrong-hash")
    else:
        bench.fetched(outcome, data)


def test_several_at_once_and_one_that_fails(mirror: Mirror, bench: Bench) -> None:
    from gesso.models.fetch import fetch

    models = []
    for number in range(5):
        data = vae(BLOCK + 1000 * number, seed=number)
        mirror.files[f"/{number}"] = data
        models.append(wanted(data, mirror.url(f"/{number}"), name=f"vae/{number}.safetensors"))
    mirror.behave("/2", "404")
    found = fetch(models, bench.folder, env={}, on_event=bench.events.append, options=options())
    assert [outcome.state for outcome in found] == ["fetched", "fetched", "failed", "fetched", "fetched"]
    assert [outcome.model for outcome in found] == models
    assert {event.name for event in bench.of("done")} == {m.name for m in models} - {"vae/2.safetensors"}


def test_no_source_at_all_names_each(mirror: Mirror, bench: Bench) -> None:
    stocked(mirror).behave(PATH, "503")
    mirror.behave(SECOND, "401-gated")
    error = bench.failed(bench.fetch(wanted(SIX, mirror.url(PATH), mirror.url(SECOND, host="localhost"))), "gated")
    assert "none of 2 sources" in error.message
    assert "HTTP 503" in error.message
    assert "HTTP 401" in error.message
    assert error.next_step.startswith("accept the licence")


def test_wrong_bytes_everywhere_are_an_error_of_content(mirror: Mirror, bench: Bench) -> None:
    stocked(mirror).behave("*", "flip")
    error = bench.failed(bench.fetch(wanted(SIX, mirror.url(PATH), mirror.url(SECOND, host="localhost"))), "wrong-hash")
    assert isinstance(error, ContentError)


def test_this_machine_cannot_take_it(mirror: Mirror, bench: Bench) -> None:
    """A file where a folder should be: no other source would help, so none is asked."""
    model = wanted(SIX, stocked(mirror).url(PATH), mirror.url(SECOND))
    bench.folder.root.mkdir()
    (bench.folder.root / "vae").write_bytes(b"")
    outcome = bench.fetch(model)
    assert isinstance(outcome.error, LocalError)
    assert outcome.error.why == "in-the-way"
    assert not [record for record in mirror.requests if record.path == SECOND]


# ── TLS ──


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate authority, and a certificate for this machine."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for command in (
        ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test CA"],
        ["req", *key, "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
         "-extfile", "san", "-out", "cert.pem"],
    ):  # fmt: skip
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return folder


def over_tls(authority: Path) -> Mirror:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    return Mirror({PATH: SIX, SECOND: SIX}, tls=context)


def test_a_company_s_own_certificates(authority: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with over_tls(authority) as mirror:
        model = wanted(SIX, mirror.url(PATH))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority / "cert.pem"))
        error = bench.failed(bench.fetch(model), "tls")
        assert isinstance(error, SourceError)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
        bench.fetched(bench.fetch(model), SIX)
        assert sockets_to(mirror.port) == 0


@pytest.mark.parametrize(
    "name", ["redirect-elsewhere", "cut-once", "reset-once", "stall-once", "expiring", "no-ranges"]
)
def test_over_tls(authority: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    with over_tls(authority) as mirror:
        mirror.behave(PATH, name)
        chosen = options(1 if name == "stall-once" else 10)
        bench.fetched(bench.fetch(wanted(SIX, mirror.url(PATH)), chosen), SIX)


def test_from_https_nothing_leads_to_http(authority: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    with over_tls(authority) as mirror:
        mirror.behave(PATH, "redirect-downgrade")
        bench.failed(bench.fetch(wanted(SIX, mirror.url(PATH))), "insecure")


def test_what_is_no_tls(mirror: Mirror, bench: Bench) -> None:
    plain = stocked(mirror).url(PATH).replace("http://", "https://")
    chosen = replace(options(retries=0), connect=0.5)
    bench.failed(bench.fetch(wanted(SIX, plain), chosen), "tls", "unreachable")


def test_the_folder_of_a_bench_is_a_models_folder(bench: Bench) -> None:
    assert isinstance(bench.folder, Folder)
    assert bench.folder.path(NAME).name == "sdxl_vae_fp16.safetensors"


def test_no_model_of_a_lower_tier_is_asked_for_before_the_required_ones_have_come(
    mirror: Mirror, tmp_path: Path
) -> None:
    """And within a tier the smallest come first: what Krita waits for gets the whole line."""
    sizes = {"optional": (1, 2), "recommended": (1,), "required": (3, 2, 4)}
    models = []
    for tier, blocks in sizes.items():
        for count in blocks:
            name = f"/{tier}-{count}.safetensors"
            data = vae(count * BLOCK, seed=count)
            mirror.files[name] = data
            models.append(wanted(data, mirror.url(name), name=f"vae{name}", tier=tier))
    mirror.behave("*", behaviour("slow", rate=20_000_000))
    events: list[Event] = []
    outcomes = fetch(models, Folder.at(tmp_path), env={}, options=replace(options(), files=2), on_event=events.append)
    assert [outcome.state for outcome in outcomes] == ["fetched"] * len(models)
    turns = [(event.kind, event.tier) for event in events if event.kind in {"started", "done"}]
    for tier, before in (("recommended", "required"), ("optional", "recommended")):
        begun = turns.index(("started", tier))
        assert turns[:begun].count(("done", before)) == len(sizes[before])
    assert {event.name for event in events if event.kind == "started"} == {model.name for model in models}
    assert [event.name for event in events if event.kind == "started"][2] == "vae/required-4.safetensors"
