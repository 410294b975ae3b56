"""Fetch from a server that misbehaves: at the final path is nothing, or exactly the right bytes.

The tables below have every behaviour of the mirror. A fault ends with the error's `why`; if the fetch still succeeds
(another way led to the same bytes) there is none.
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
from gesso.models.download.journal import Partial
from gesso.models.download.model_download import Stopped
from gesso.models.faults import ContentError, LocalError, SourceError
from gesso.models.fetch import fetch
from gesso.models.folder import Folder
from gesso.models.net.limits import BLOCK
from gesso.models.verify import check

from .fetching import (
    LARGE,
    NAME,
    OTHER,
    PATH,
    SECOND,
    SMALL,
    Bench,
    model_of,
    options,
    pickled,
    safetensors,
    sockets_to,
    vae,
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
    """How a fault ends: any of `whys` (none: the fetch succeeds); `small`: the same for a file below one block."""

    whys: tuple[str, ...] = ()
    small: tuple[str, ...] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    stalls: bool = False


def ends(*whys: str, small: tuple[str, ...] | None = None, stalls: bool = False, **params: Any) -> Case:
    return Case(whys, small, params, stalls)


SUCCEEDS = ends()
# Parameters that make a slow server bearable; all of these must succeed.
QUIRK_PARAMETERS: dict[str, dict[str, Any]] = {
    "slow": {"rate": 4_000_000},
    "late": {"seconds": 0.1},
    "pause": {"at": 30_000, "seconds": 0.2},
    "shorter-range": {"limit": 200_000},
}
TRANSIENT: dict[str, Case] = {
    **dict.fromkeys(names("transient"), SUCCEEDS),
    "stall-once": ends(stalls=True),
    # A page is not a transient fault: a person has to read it. The next fetch succeeds.
    "login-page-once": ends("html"),
}
FAULTS: dict[str, Case] = {
    # Other content than the file, with a correct transport.
    "login-page": ends("html"),
    "login-page-as-binary": ends("html"),
    "login-page-same-size": ends("html"),
    "login-page-same-size-as-binary": ends("html"),
    "json-error": ends("json"),
    "lfs-pointer": ends("lfs-pointer"),
    "stub": ends("truncated", small=("oversized",)),  # "stub" if less than a hundredth is present: see the incident
    "empty": ends("stub"),
    "204": ends("refused-request"),
    "pickle": ends("pickle"),
    "pickle-same-size": ends("pickle"),
    "header-only": ends("stub"),
    "wrong-family": ends("wrong-family"),
    "other-file": ends("wrong-hash"),
    "flip": ends("wrong-hash"),
    "flip-other-etag": ends("wrong-hash"),
    # Error statuses.
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
    # Wrong responses to ranges: as one stream they work.
    "range-answered-whole": SUCCEEDS,
    "range-answered-200": ends("truncated", small=()),  # of a small file the part is the whole file
    "range-wrong-start": SUCCEEDS,
    "range-other-part": SUCCEEDS,
    "range-lies": ends("malformed"),  # the header starts a byte too late
    "range-wrong-last": SUCCEEDS,
    "range-wrong-total": ends("oversized", small=()),  # the last byte of a small file has an impossible total
    "range-no-header": SUCCEEDS,
    "range-nonsense": SUCCEEDS,
    "range-other-unit": SUCCEEDS,
    "range-longer": SUCCEEDS,
    "range-longer-chunked": SUCCEEDS,
    "range-multipart": SUCCEEDS,
    "206-unrequested": SUCCEEDS,  # the client always requests a part
    "206-unrequested-part": SUCCEEDS,
    # A file that changes: an entity tag can change while the bytes stay.
    "etag-changes": SUCCEEDS,
    "modified-changes": SUCCEEDS,
    "replaced": ends("malformed", small=()),  # as one stream: the new file, which is garbage
    "replaced-longer": ends("oversized", small=()),
    "replaced-shorter": ends("truncated", small=()),
    # Only the hash shows it; requested once more, it is the new file from its first byte.
    "replaced-no-etag": ends("malformed", "wrong-hash", small=()),
    "replaced-silently": ends("malformed", "wrong-hash", small=()),
    "gzip": ends("encoded"),
    "gzip-header-only": ends("encoded"),
    # Broken connections.
    "cut": ends("cut-off"),
    "cut-reset": ends("cut-off"),
    "stall": ends("stalled", stalls=True),
    "stall-before-status": ends("stalled", stalls=True),
    "close-before-status": ends("cut-off"),
    "reset-before-status": ends("cut-off"),
    "trickle": ends("stalled", stalls=True, rate=20),  # faster than any socket timeout
    "trickle-head": ends("stalled", stalls=True, rate=20),
    "refuse": ends("unreachable", "cut-off", connections=50),  # depends on the kernel
    # Broken lengths.
    "length-missing": SUCCEEDS,
    "length-low": ends("truncated"),
    "length-high": ends("oversized", small=("cut-off", "oversized")),
    "length-high-stall": ends("oversized", small=("stalled",), stalls=True),
    "length-negative": ends("bad-answer"),
    "length-nonsense": ends("bad-answer"),
    "length-zero": ends("stub"),
    "length-huge": ends("bad-answer"),
    "length-twice": ends("bad-answer"),
    "endless": ends("oversized", small=()),  # the requested part is in it, and no more is read
    "endless-chunked": ends("oversized", small=()),
    "bad-chunks": ends("cut-off"),
    "bad-chunks-negative": ends("cut-off"),
    "bad-chunks-huge": ends("oversized", "cut-off", small=()),  # one endless chunk
    "chunks-unended": SUCCEEDS,  # every byte arrived, only the last chunk is missing
    # Broken HTTP.
    "not-http": ends("not-http"),
    "no-status-line": ends("not-http"),
    "status-999": ends("refused-request"),
    "status-nonsense": ends("not-http"),
    "status-http9": ends("not-http"),
    "huge-header": ends("not-http"),
    "thousands-of-headers": ends("not-http"),
    # Invalid redirects.
    "redirect-loop": ends("bad-redirect"),
    "redirect-endless": ends("bad-redirect"),
    "redirect-nowhere": ends("bad-redirect"),
    "redirect-empty": ends("bad-redirect"),
    "redirect-downgrade": ends("bad-redirect"),  # with plain http it is a loop; for https see below
    "redirect-to-private": ends("private-address"),
    "redirect-to-metadata": ends("private-address"),
    "redirect-to-mapped": ends("private-address"),
    "redirect-to-decimal": ends("private-address"),
    "redirect-to-userinfo": ends("private-address"),
    "redirect-to-ipv6-loopback": ends("unreachable"),  # it is this machine, and no server listens
    "redirect-to-dead-https": ends("unreachable"),
    "redirect-to-file": ends("insecure"),
    "redirect-to-ftp": ends("insecure"),
    "redirect-to-data": ends("insecure"),
}
ONCE: dict[str, dict[str, Any]] = {"refuse": {"connections": 1}}  # or the next source would be refused, too
# After one bad response followed by good ones, the same source delivers the file in the same run.
RECOVERS = {
    "cut-off", "stalled", "unreachable", "rate-limited", "server-error", "wrong-hash", "bad-range", "changed",
}  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "models")


def add_files(mirror: Mirror, data: bytes = LARGE) -> Mirror:
    mirror.files |= {PATH: data, SECOND: data, **OTHERS}
    return mirror


def act(mirror: Mirror, name: str, case: Case, data: bytes = LARGE, **more: Any) -> None:
    params = case.params
    if name == "other-file":
        params = {"path": "/other" if data is LARGE else "/other-small"}
    mirror.behave(PATH, behaviour(name, **params | more))


def chosen(case: Case, retries: int = 1) -> Any:
    return options(STALL, retries=retries) if case.stalls else options()


def test_the_tables_have_every_behaviour() -> None:
    assert set(FAULTS) | set(TRANSIENT) | set(names("quirk")) == set(BEHAVIOURS)
    assert set(TRANSIENT) == set(names("transient"))
    assert set(FAULTS) == set(names("fault"))
    assert sum(bool(case.whys) for case in FAULTS.values()) >= 45


SIZES = [pytest.param(LARGE, id="six-blocks"), pytest.param(SMALL, id="small")]


# ── no false positives ──


@pytest.mark.parametrize("data", SIZES)
@pytest.mark.parametrize("name", names("quirk"))
def test_quirks_work_without_a_retry(mirror: Mirror, bench: Bench, name: str, data: bytes) -> None:
    add_files(mirror, data).behave(PATH, behaviour(name, **QUIRK_PARAMETERS.get(name, {})))
    outcome = bench.fetch(model_of(data, mirror.url(PATH)))
    bench.assert_fetched(outcome, data)
    assert not bench.of("switched")
    assert not bench.of("quarantined")
    assert name == "connection-limit" or not bench.of("retrying")
    assert sockets_to(mirror.port) == 0
    assert outcome.received == len(data)
    before = bench.path(outcome.model).stat()
    assert bench.fetch(outcome.model).state == "there"
    assert bench.path(outcome.model).stat() == before


# ── every fault ──


@pytest.mark.parametrize("data", SIZES)
@pytest.mark.parametrize("name", FAULTS)
def test_alone(mirror: Mirror, bench: Bench, name: str, data: bytes) -> None:
    case = FAULTS[name]
    act(add_files(mirror, data), name, case, data)
    outcome = bench.fetch(model_of(data, mirror.url(PATH)), chosen(case, retries=0))
    whys = case.whys if data is LARGE or case.small is None else case.small
    if whys:
        error = bench.assert_failed(outcome, *whys)
        assert f"127.0.0.1:{mirror.port}: " in error.message
    else:
        bench.assert_fetched(outcome, data)
    assert sockets_to(mirror.port) == 0


@pytest.mark.parametrize("name", FAULTS)
def test_with_a_healthy_second_source(mirror: Mirror, bench: Bench, name: str) -> None:
    case = FAULTS[name]
    act(add_files(mirror), name, case, LARGE, **ONCE.get(name, {}))
    second = mirror.url(SECOND, host="localhost")
    outcome = bench.fetch(model_of(LARGE, mirror.url(PATH), second), chosen(case))
    bench.assert_fetched(outcome, LARGE)
    if case.whys:
        [switched] = bench.of("switched")
        assert switched.source == outcome.source == f"localhost:{mirror.port}"
        host, reason = switched.message.split(": ", 1)
        assert host == f"127.0.0.1:{mirror.port}"
        assert len(reason) > 10
    else:
        assert not bench.of("switched")


@pytest.mark.parametrize("name", [name for name in FAULTS if FAULTS[name].whys])
def test_transient_faults(mirror: Mirror, bench: Bench, name: str) -> None:
    case = FAULTS[name]
    act(add_files(mirror), name, case, LARGE, times=1, **ONCE.get(name, {}))
    model = model_of(LARGE, mirror.url(PATH))
    outcome = bench.fetch(model, chosen(case, retries=2))
    if outcome.state == "failed":
        assert not RECOVERS & set(case.whys) or name.endswith("-for-ever")
        bench.assert_failed(outcome, *case.whys)
        outcome = bench.fetch(model)
    bench.assert_fetched(outcome, LARGE)


@pytest.mark.parametrize("data", SIZES)
@pytest.mark.parametrize("name", TRANSIENT)
def test_a_fault_that_occurs_once(mirror: Mirror, bench: Bench, name: str, data: bytes) -> None:
    case = TRANSIENT[name]
    act(add_files(mirror, data), name, case, data)
    model = model_of(data, mirror.url(PATH))
    outcome = bench.fetch(model, chosen(case, retries=2))
    if case.whys:
        bench.assert_failed(outcome, *case.whys)
        outcome = bench.fetch(model)
    bench.assert_fetched(outcome, data)


@pytest.mark.parametrize("name", ["429-for-ever", "503-for-ever", "404", "410", "403-gated", "login-page", "pickle"])
def test_hopeless_retries_are_not_made(mirror: Mirror, bench: Bench, name: str) -> None:
    act(add_files(mirror), name, FAULTS[name])
    bench.assert_failed(bench.fetch(model_of(LARGE, mirror.url(PATH))), *FAULTS[name].whys)
    assert len(mirror.requests) == 1


# ── faults in the middle of a file ──


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
    """The first block is good; later ones are not, and the second source delivers them."""
    case = MIDDLE[name]
    act(add_files(mirror), name, case, not_first=True)
    model = model_of(LARGE, mirror.url(PATH), mirror.url(SECOND, host="localhost"))
    bench.assert_fetched(bench.fetch(model, chosen(case)), LARGE)


@pytest.mark.parametrize("name", MIDDLE)
def test_in_the_middle_and_then_never_again(mirror: Mirror, bench: Bench, name: str) -> None:
    case = MIDDLE[name]
    act(add_files(mirror), name, case, not_first=True, times=2)
    model = model_of(LARGE, mirror.url(PATH))
    for _ in range(2):  # if it gives up at once, each run meets one of the two
        outcome = bench.fetch(model, chosen(case, retries=2))
        if outcome.state == "fetched":
            break
        assert not RECOVERS & set(case.whys)
    else:
        outcome = bench.fetch(model)
    bench.assert_fetched(outcome, LARGE)


def test_wrong_bytes_of_one_source_are_not_mixed_into_the_next(mirror: Mirror, bench: Bench) -> None:
    """The first source delivers flipped bytes and then fails; the second delivers the rest, then everything."""
    model = model_of(LARGE, add_files(mirror).url(PATH), mirror.url(SECOND, host="localhost"))
    mirror.behave(PATH, behaviour("flip", at=200_000), behaviour("404", after=3))
    outcome = bench.fetch(model, options(connections=1))
    bench.assert_fetched(outcome, LARGE)
    served = sum(record.sent for record in mirror.requests if record.path == SECOND)
    assert served <= 2 * len(LARGE)  # the missing bytes, and once the whole file


def test_an_unmeasured_part_is_watched_too(mirror: Mirror, bench: Bench) -> None:
    add_files(mirror).behave(PATH, behaviour("no-ranges-chunked"), behaviour("trickle", rate=20))
    bench.assert_failed(bench.fetch(model_of(LARGE, mirror.url(PATH), size=None), options(STALL, retries=0)), "stalled")


def test_endless_interim_responses(mirror: Mirror, bench: Bench) -> None:
    add_files(mirror).behave(PATH, behaviour("not-http", text="HTTP/1.1 103 Early Hints\r\n\r\n" * 20_000))
    bench.assert_failed(bench.fetch(model_of(LARGE, mirror.url(PATH))), "not-http")


def test_a_redirect_to_an_invalid_url(mirror: Mirror, bench: Bench) -> None:
    for to in ("http://[::1/x", "https://[nonsense]/x", "https://host:port/x", "https://host:99999/", "//", "https://"):
        add_files(mirror).behave(PATH, behaviour("redirect", to=to))
        bench.assert_failed(
            bench.fetch(model_of(LARGE, mirror.url(PATH))), "bad-redirect", "insecure", "private-address"
        )


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
def test_a_redirect_cannot_reach_private_addresses(mirror: Mirror, bench: Bench, to: str) -> None:
    add_files(mirror).behave(PATH, behaviour("redirect", to=to.format(port=mirror.port)))
    outcome = bench.fetch(model_of(LARGE, mirror.url(PATH)))
    bench.assert_failed(outcome, "private-address", "insecure", "bad-redirect")
    assert len(mirror.requests) == 1


# ── unknown sizes ──


@pytest.mark.parametrize("data", SIZES)
@pytest.mark.parametrize(
    "name", ["healthy", "no-ranges", "no-ranges-chunked", "http10", "chunked", "total-star", "hub"]
)
def test_an_unknown_size(mirror: Mirror, bench: Bench, name: str, data: bytes) -> None:
    add_files(mirror, data).behave(PATH, behaviour(name))
    bench.assert_fetched(bench.fetch(model_of(data, mirror.url(PATH), size=None)), data)


@pytest.mark.parametrize("lengths", ["", "no-ranges-chunked"])
@pytest.mark.parametrize("name", ["flip", "other-file", "header-only", "login-page", "cut", "gzip", "endless-chunked"])
def test_an_unknown_size_and_a_bad_first_source(
    mirror: Mirror, bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, lengths: str
) -> None:
    """Whatever size the first source reported, the second's is different."""
    monkeypatch.setattr(unknown_length, "MOST", 8 << 20)
    add_files(mirror)
    more = {"path": "/other"} if name == "other-file" else {}
    mirror.behave(PATH, *([behaviour(lengths)] if lengths else []), behaviour(name, **more))
    model = model_of(LARGE, mirror.url(PATH), mirror.url(SECOND), size=None)
    bench.assert_fetched(bench.fetch(model), LARGE)


def test_an_unknown_size_a_shorter_file_then_the_right_one(mirror: Mirror, bench: Bench) -> None:
    add_files(mirror).files[PATH] = vae(3 * BLOCK)
    bench.assert_fetched(bench.fetch(model_of(LARGE, mirror.url(PATH), mirror.url(SECOND), size=None)), LARGE)


def test_an_unknown_size_a_part_then_a_stream_then_parts(mirror: Mirror, bench: Bench) -> None:
    add_files(mirror).files |= {"/third": LARGE}
    mirror.behave(PATH, behaviour("404", not_first=True))
    mirror.behave(SECOND, behaviour("no-ranges-chunked"), behaviour("flip"))
    model = model_of(LARGE, mirror.url(PATH), mirror.url(SECOND), mirror.url("/third"), size=None)
    bench.assert_fetched(bench.fetch(model), LARGE)


# ── partial files of other runs ──


def left_over(bench: Bench, model: Model, data: bytes, *blocks: int) -> None:
    """Leave a partial file with these blocks of `data`, and a journal that marks them."""
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
def test_a_partial_file_of_right_bytes_is_resumed(
    mirror: Mirror, bench: Bench, name: str, blocks: tuple[int, ...]
) -> None:
    add_files(mirror).behave(PATH, behaviour(name))
    model = model_of(LARGE, mirror.url(PATH))
    left_over(bench, model, LARGE, *blocks)
    bench.assert_fetched(bench.fetch(model), LARGE)
    here = sum(min(BLOCK, len(LARGE) - block * BLOCK) for block in blocks)
    if name != "no-ranges":
        assert sum(record.sent for record in mirror.requests) == len(LARGE) - here
    if len(blocks) == 6:
        assert mirror.requests == []


@pytest.mark.parametrize("blocks", [(0,), (3,), (0, 1, 2), (1, 5), (0, 1, 2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("name", ["healthy", "no-ranges", "hub"])
@pytest.mark.parametrize(
    "bad", [OTHER, bytes(len(LARGE)), b"<!DOCTYPE html>".ljust(len(LARGE))], ids=["other", "0", "html"]
)
def test_a_partial_file_of_wrong_bytes_is_restarted_once(
    mirror: Mirror, bench: Bench, bad: bytes, name: str, blocks: tuple[int, ...]
) -> None:
    add_files(mirror).behave(PATH, behaviour(name))
    model = model_of(LARGE, mirror.url(PATH))
    left_over(bench, model, bad, *blocks)
    bench.assert_fetched(bench.fetch(model), LARGE)
    assert len(bench.of("retrying")) <= 1
    assert sum(record.sent for record in mirror.requests) <= 2 * len(LARGE)


def test_a_partial_file_that_is_bad_and_a_source_that_is_too(mirror: Mirror, bench: Bench) -> None:
    """A bad source must not cost the good bytes of the partial file."""
    add_files(mirror).behave(PATH, behaviour("login-page"))
    model = model_of(LARGE, mirror.url(PATH))
    left_over(bench, model, LARGE, 0, 1, 2)
    bench.assert_failed(bench.fetch(model), "html")
    mirror.reset()
    bench.assert_fetched(bench.fetch(model), LARGE)
    assert sum(record.sent for record in mirror.requests) == len(LARGE) - 3 * BLOCK


def test_an_invalid_journal(mirror: Mirror, bench: Bench) -> None:
    model = model_of(LARGE, add_files(mirror).url(PATH))
    for text in (b"", b"garbage", b"\1" * 5000, b"{}"):
        left_over(bench, model, OTHER, 0, 1)
        bench.folder.journal(model.name, model.sha256).write_bytes(text)
        bench.assert_fetched(bench.fetch(model), LARGE)
        bench.path(model).unlink()


# ── resuming ──


def missing_of(bench: Bench, model: Model) -> int:
    """Return how many bytes the journal marks as missing."""
    flags = bench.folder.journal(model.name, model.sha256).read_bytes()[4096:]
    assert len(flags) == 6
    return sum(min(BLOCK, len(LARGE) - at * BLOCK) for at, flag in enumerate(flags) if not flag)


@pytest.mark.parametrize("name", ["slow", "no-ranges"])
def test_stopped_and_resumed(mirror: Mirror, bench: Bench, name: str) -> None:
    stop = threading.Event()
    rules = [behaviour("slow", rate=BLOCK * 2)] + ([behaviour("no-ranges")] if name == "no-ranges" else [])
    add_files(mirror).behave(PATH, *rules)
    model = model_of(LARGE, mirror.url(PATH))
    watcher = Watching(bench, lambda event: stop.set() if event.done >= 2 * BLOCK else None)
    with pytest.raises(Stopped):
        watcher.fetch(model, options(connections=1), stop=stop)
    assert sockets_to(mirror.port) == 0
    assert bench.bytes_of(model) is None
    missing = missing_of(bench, model)
    assert missing <= 4 * BLOCK
    mirror.reset()
    bench.assert_fetched(bench.fetch(model), LARGE)
    assert sum(record.sent for record in mirror.requests) == missing


class Watching(Bench):
    """A bench that acts on every event."""

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
def test_a_run_that_failed_in_the_middle_is_resumed(mirror: Mirror, bench: Bench, name: str) -> None:
    add_files(mirror).behave(PATH, behaviour(name, after=3))
    model = model_of(LARGE, mirror.url(PATH))
    bench.assert_failed(bench.fetch(model, options(connections=1)), *FAULTS[name].whys)
    missing = missing_of(bench, model)
    assert 0 < missing <= 3 * BLOCK + BLOCK
    mirror.reset()
    bench.assert_fetched(bench.fetch(model), LARGE)
    assert sum(record.sent for record in mirror.requests) == missing


def test_a_finished_fetch_is_never_touched_again(mirror: Mirror, bench: Bench) -> None:
    model = model_of(LARGE, add_files(mirror).url(PATH))
    bench.assert_fetched(bench.fetch(model), LARGE)
    before = bench.path(model).stat()
    mirror.behave("*", "404")
    mirror.clear_log()
    assert bench.fetch(model).state == "there"
    receipts.delete(bench.folder, model.name)  # then it is hashed, and still not fetched
    assert bench.fetch(model).state == "there"
    assert receipts.is_valid(bench.folder, model.name, model.sha256)
    after = bench.path(model).stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    assert mirror.requests == []


def test_an_address_that_expires_in_mid_fetch_is_resolved_again(mirror: Mirror, bench: Bench) -> None:
    add_files(mirror).behave(PATH, behaviour("expiring", uses=2))
    bench.assert_fetched(bench.fetch(model_of(LARGE, mirror.url(PATH))), LARGE)
    requests = [record for record in mirror.requests if record.path == PATH]
    assert len(requests) >= 3
    assert any(record.status == 403 for record in mirror.requests)
    assert not bench.of("retrying")


# ── who receives a token ──


TOKENS = {"HF_TOKEN": "hf_veryverysecret", "CIVITAI_TOKEN": "civ_veryverysecret"}


def never_told(bench: Bench, outcome: Any) -> None:
    """Check that no event, message or file contains the token."""
    text = repr(bench.events) + repr(outcome) + str(outcome.error)
    text += "".join(str(path) for path in bench.folder.root.rglob("*"))
    text += "".join(p.read_text() for p in bench.folder.state.rglob("*") if p.is_file() and p.stat().st_size < 1 << 16)
    assert "veryverysecret" not in text
    assert "Bearer" not in text


def authorizations(mirror: Mirror) -> dict[str, set[str]]:
    """Return the authorizations of requests for each kind of path, by host."""
    found: dict[str, set[str]] = {}
    for record in mirror.requests:
        found.setdefault(record.headers["host"], set()).add(record.headers.get("authorization", ""))
    return found


@pytest.mark.parametrize("name", ["healthy", "401", "403", "redirect-elsewhere", "expiring", "login-page", "cut"])
def test_a_token_is_only_sent_to_its_own_host(mirror: Mirror, bench: Bench, name: str) -> None:
    add_files(mirror).behave(PATH, behaviour(name))
    never_told(bench, bench.fetch(model_of(LARGE, mirror.url(PATH)), env=TOKENS))
    assert all(seen == {""} for seen in authorizations(mirror).values())


@pytest.mark.parametrize("name", ["redirect-elsewhere", "redirect-elsewhere-307", "expiring", "hub"])
def test_a_token_is_dropped_on_the_way_to_another_host(mirror: Mirror, bench: Bench, name: str) -> None:
    add_files(mirror).behave(PATH, behaviour(name))
    model = model_of(LARGE, f"https://huggingface.co{PATH}")
    outcome = bench.fetch(model, env=TOKENS | {"HF_ENDPOINT": mirror.url("")})
    bench.assert_fetched(outcome, LARGE)
    assert outcome.source == "huggingface.co"
    never_told(bench, outcome)
    assert authorizations(mirror) == {
        f"127.0.0.1:{mirror.port}": {f"Bearer {TOKENS['HF_TOKEN']}"},
        f"localhost:{mirror.port}": {""},
    }


def test_a_token_is_dropped_on_the_way_to_another_port(mirror: Mirror, bench: Bench) -> None:
    with Mirror({PATH: LARGE}) as other:
        add_files(mirror).behave(PATH, behaviour("redirect", to=other.url(PATH)))
        model = model_of(LARGE, f"https://huggingface.co{PATH}")
        bench.assert_fetched(bench.fetch(model, env=TOKENS | {"HF_ENDPOINT": mirror.url("")}), LARGE)
        assert authorizations(other) == {f"127.0.0.1:{other.port}": {""}}


def test_a_token_stays_on_the_way_to_the_same_origin(mirror: Mirror, bench: Bench) -> None:
    add_files(mirror).behave(PATH, behaviour("redirect-chain"))
    model = model_of(LARGE, f"https://huggingface.co{PATH}")
    bench.assert_fetched(bench.fetch(model, env=TOKENS | {"HF_ENDPOINT": mirror.url("")}), LARGE)
    assert authorizations(mirror) == {f"127.0.0.1:{mirror.port}": {f"Bearer {TOKENS['HF_TOKEN']}"}}


# ── Hugging Face ──


def hugging(mirror: Mirror, bench: Bench, token: str = "", data: bytes = LARGE, **front: Any) -> Any:
    """Fetch from a mirror like Hugging Face."""
    mirror.hub("acme/models", {"vae.safetensors": data}, **front)
    env = {"HF_ENDPOINT": mirror.url("")} | ({"HF_TOKEN": token} if token else {})
    return bench.fetch(model_of(LARGE, f"https://huggingface.co{PATH}"), env=env)


def test_a_gated_file(mirror: Mirror, bench: Bench) -> None:
    error = bench.assert_failed(hugging(mirror, bench, gated=True), "gated", "needs-token")
    assert f"accept the licence at {mirror.url('/acme/models')}, then set HF_TOKEN" in error.next_step
    error = bench.assert_failed(hugging(mirror, bench, "no-licence", gated=True), "gated")
    assert error.next_step == f"accept the licence at {mirror.url('/acme/models')}"
    bench.assert_failed(hugging(mirror, bench, "bad", gated=True), "gated", "bad-token")
    outcome = hugging(mirror, bench, "good", gated=True)
    bench.assert_fetched(outcome, LARGE)


def test_a_token_that_is_not_accepted(mirror: Mirror, bench: Bench) -> None:
    add_files(mirror).behave(PATH, "401")
    model = model_of(LARGE, f"https://huggingface.co{PATH}")
    outcome = bench.fetch(model, env=TOKENS | {"HF_ENDPOINT": mirror.url("")})
    error = bench.assert_failed(outcome, "bad-token")
    assert "HF_TOKEN" in error.message
    never_told(bench, outcome)


def test_a_login_for_which_there_is_no_token(mirror: Mirror, bench: Bench) -> None:
    add_files(mirror).behave(SECOND, "401")
    error = bench.assert_failed(bench.fetch(model_of(LARGE, mirror.url(SECOND)), env=TOKENS), "needs-token")
    assert "another source" in error.next_step


@pytest.mark.parametrize("lfs", [True, False])
def test_it_is_fetched_from_a_mirror_like_hugging_face(mirror: Mirror, bench: Bench, *, lfs: bool) -> None:
    bench.assert_fetched(hugging(mirror, bench, lfs=lfs), LARGE)


@pytest.mark.parametrize("limits", [{"uses": 2}, {"seconds": 0.05}])
def test_its_addresses_expire(mirror: Mirror, bench: Bench, limits: dict[str, Any]) -> None:
    """Each URL expires after 50 ms; every new one works for a while, so the fetch finishes."""
    mirror.behave("/cdn/*", behaviour("late", seconds=0.02))
    bench.assert_fetched(hugging(mirror, bench, **limits), LARGE)


def test_another_file_is_known_by_its_announced_hash_before_its_body(mirror: Mirror, bench: Bench) -> None:
    error = bench.assert_failed(hugging(mirror, bench, data=OTHER), "wrong-hash")
    assert hashlib.sha256(OTHER).hexdigest() in error.message
    assert sum(record.sent for record in mirror.requests) <= BLOCK


def test_a_wrong_announced_hash(mirror: Mirror, bench: Bench) -> None:
    bench.assert_failed(hugging(mirror, bench, linked={"X-Linked-ETag": f'"{"0" * 64}"'}), "wrong-hash")


@pytest.mark.parametrize("text", ["", '"short"', '"' + "g" * 64 + '"', '"' + "0" * 63 + '"'])
def test_an_invalid_announced_hash(mirror: Mirror, bench: Bench, text: str) -> None:
    bench.assert_fetched(hugging(mirror, bench, linked={"X-Linked-ETag": text}), LARGE)


def test_an_endpoint_that_is_no_url(bench: Bench) -> None:
    for endpoint in ("http://[::1", "http://127.0.0.1:port", "ftp://127.0.0.1", "nonsense", "http://10.0.0.1"):
        model = model_of(LARGE, f"https://huggingface.co{PATH}")
        outcome = bench.fetch(model, env=TOKENS | {"HF_ENDPOINT": endpoint})
        bench.assert_failed(outcome, "insecure")
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
    """Return a checkpoint of which 710 KB are less than a hundredth."""
    path = tmp_path_factory.mktemp("incident") / "juggernaut"
    with path.open("wb") as file:
        file.write(safetensors(SDXL, 80_000_000, data=False))
        file.truncate(80_000_000)
    return path


@pytest.mark.parametrize("bad", ["garbage", "header", "page", "zeros"])
def test_the_incident(mirror: Mirror, bench: Bench, juggernaut: Path, bad: str) -> None:
    """A 710 KB stub is in place: every level finds it, it is quarantined and fetched again, and right in the end."""
    mirror.files[PATH] = juggernaut
    with juggernaut.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        start = file.read(STUB)
    stub = {
        "garbage": bytes(range(7, 249, 11)) * (STUB // 22), "header": start, "page": b"<html>".ljust(STUB),
        "zeros": bytes(STUB),
    }[bad]  # fmt: skip
    model = model_of(b"", mirror.url(PATH), name=JUGGERNAUT, kind="checkpoint", sha256=digest, size=80_000_000)
    path = bench.path(model)
    path.parent.mkdir(parents=True)
    path.write_bytes(stub)
    levels: tuple[Level, ...] = ("fast", "header", "full")
    for level in levels:
        verdict = check(model, bench.folder, level)
        assert verdict.bad, level
        assert verdict.status == ("html" if bad == "page" else "stub")
    # A receipt written for other bytes does not make it valid.
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
    assert receipts.is_valid(bench.folder, model.name, digest)


def test_the_incident_and_no_source(mirror: Mirror, bench: Bench) -> None:
    """No file is better than a stub."""
    model = model_of(LARGE, mirror.url(PATH))
    bench.path(model).parent.mkdir(parents=True)
    bench.path(model).write_bytes(LARGE[: len(LARGE) // 2])
    bench.assert_failed(bench.fetch(model), "not-found")
    assert len(list(bench.folder.quarantine.iterdir())) == 1


def test_a_vae_of_the_wrong_channels_is_refused_before_its_body(mirror: Mirror, bench: Bench, tmp_path: Path) -> None:
    shapes = {"decoder.conv_in.weight": [512, 16, 3, 3], "encoder.conv_in.weight": [128, 3, 3, 3]}
    head = safetensors(shapes, 167_000_000, data=False)
    path = tmp_path / "vae16"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(167_000_000)
    mirror.files[PATH] = path
    model = model_of(b"", mirror.url(PATH), sha256="0" * 64, size=167_000_000)
    assert model.name == "vae/sdxl_vae_fp16.safetensors"
    error = bench.assert_failed(bench.fetch(model), "wrong-family")
    assert "4 latent channels" in error.message
    assert "16" in error.message
    assert len(mirror.requests) <= 2
    assert sum(record.sent for record in mirror.requests) <= 1_500_000
    assert bench.leftovers() == []


# ── other kinds and sizes of files ──


@pytest.mark.parametrize("size", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
@pytest.mark.parametrize("name", ["healthy", "no-ranges", "no-ranges-chunked", "http10", "total-star", "flip"])
def test_sizes(mirror: Mirror, bench: Bench, size: int, name: str) -> None:
    data = b"\x80" + os.urandom(size - 1)  # a pickle; some others start like an error message of a server
    mirror.files[PATH] = data
    mirror.behave(PATH, name)
    outcome = bench.fetch(pickled(data, mirror.url(PATH)))
    if name == "flip":
        bench.assert_failed(outcome, "wrong-hash")
    else:
        bench.assert_fetched(outcome, data)


def test_several_at_once_and_one_that_fails(mirror: Mirror, bench: Bench) -> None:
    from gesso.models.fetch import fetch

    models = []
    for number in range(5):
        data = vae(BLOCK + 1000 * number, seed=number)
        mirror.files[f"/{number}"] = data
        models.append(model_of(data, mirror.url(f"/{number}"), name=f"vae/{number}.safetensors"))
    mirror.behave("/2", "404")
    found = fetch(models, bench.folder, env={}, on_event=bench.events.append, options=options())
    assert [outcome.state for outcome in found] == ["fetched", "fetched", "failed", "fetched", "fetched"]
    assert [outcome.model for outcome in found] == models
    assert {event.name for event in bench.of("done")} == {m.name for m in models} - {"vae/2.safetensors"}
    (failed,) = bench.of("failed")
    assert (failed.fault, failed.source) == ("not-found", mirror.url("").split("/")[2])


def test_no_source_at_all_names_each(mirror: Mirror, bench: Bench) -> None:
    add_files(mirror).behave(PATH, "503")
    mirror.behave(SECOND, "401-gated")
    error = bench.assert_failed(
        bench.fetch(model_of(LARGE, mirror.url(PATH), mirror.url(SECOND, host="localhost"))), "gated"
    )
    assert bench.events[-1].source.startswith("localhost:")  # the one that a person can do something about
    assert "none of 2 sources" in error.message
    assert "HTTP 503" in error.message
    assert "HTTP 401" in error.message
    assert error.next_step.startswith("accept the licence")


def test_wrong_bytes_everywhere_are_an_error_of_content(mirror: Mirror, bench: Bench) -> None:
    add_files(mirror).behave("*", "flip")
    error = bench.assert_failed(
        bench.fetch(model_of(LARGE, mirror.url(PATH), mirror.url(SECOND, host="localhost"))), "wrong-hash"
    )
    assert isinstance(error, ContentError)


def test_local_errors_stop_the_fetch(mirror: Mirror, bench: Bench) -> None:
    """A file at a folder's path: no other source would help, so none is requested."""
    model = model_of(LARGE, add_files(mirror).url(PATH), mirror.url(SECOND))
    bench.folder.root.mkdir()
    (bench.folder.root / "vae").write_bytes(b"")
    outcome = bench.fetch(model)
    assert isinstance(outcome.error, LocalError)
    assert outcome.error.why == "in-the-way"
    assert not [record for record in mirror.requests if record.path == SECOND]


# ── TLS ──


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a certificate authority, and a certificate for this machine."""
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
    return Mirror({PATH: LARGE, SECOND: LARGE}, tls=context)


def test_a_private_certificate_authority(authority: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with over_tls(authority) as mirror:
        model = model_of(LARGE, mirror.url(PATH))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority / "cert.pem"))
        error = bench.assert_failed(bench.fetch(model), "tls")
        assert isinstance(error, SourceError)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
        bench.assert_fetched(bench.fetch(model), LARGE)
        assert sockets_to(mirror.port) == 0


@pytest.mark.parametrize(
    "name", ["redirect-elsewhere", "cut-once", "reset-once", "stall-once", "expiring", "no-ranges"]
)
def test_over_tls(authority: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    with over_tls(authority) as mirror:
        mirror.behave(PATH, name)
        chosen = options(1 if name == "stall-once" else 10)
        bench.assert_fetched(bench.fetch(model_of(LARGE, mirror.url(PATH)), chosen), LARGE)


def test_from_https_nothing_leads_to_http(authority: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    with over_tls(authority) as mirror:
        mirror.behave(PATH, "redirect-downgrade")
        bench.assert_failed(bench.fetch(model_of(LARGE, mirror.url(PATH))), "insecure")


def test_a_server_without_tls(mirror: Mirror, bench: Bench) -> None:
    plain = add_files(mirror).url(PATH).replace("http://", "https://")
    chosen = replace(options(retries=0), connect=0.5)
    bench.assert_failed(bench.fetch(model_of(LARGE, plain), chosen), "tls", "unreachable")


def test_the_folder_of_a_bench_is_a_models_folder(bench: Bench) -> None:
    assert isinstance(bench.folder, Folder)
    assert bench.folder.path(NAME).name == "sdxl_vae_fp16.safetensors"


def test_required_models_are_fetched_before_lower_tiers(mirror: Mirror, tmp_path: Path) -> None:
    """Within a tier the smallest come first: they get the full bandwidth, so that Krita waits less."""
    sizes = {"optional": (1, 2), "recommended": (1,), "required": (3, 2, 4)}
    models = []
    for tier, blocks in sizes.items():
        for count in blocks:
            name = f"/{tier}-{count}.safetensors"
            data = vae(count * BLOCK, seed=count)
            mirror.files[name] = data
            models.append(model_of(data, mirror.url(name), name=f"vae{name}", tier=tier))
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
