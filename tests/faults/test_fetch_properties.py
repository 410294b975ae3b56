"""Property tests with arbitrary servers: every fetch ends, with the right bytes or with a documented error.

By default with few examples; GESSO_EXAMPLES=50 in the environment runs 50 times as many, for a night.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mirror import Mirror, behaviour

from gesso.models.net.limits import BLOCK

from .fetching import NAME, Bench, model_of, options, pickled, sockets_to, vae

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gesso.manifest.schema import Model

TIMES = int(os.environ.get("GESSO_EXAMPLES", "1"))
PATIENCE = 60.0  # seconds in which every example must end, however busy the machine is
_ORDINARY: dict[str, Any] = {
    "deadline": None, "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
}  # fmt: skip


def examples(number: int) -> settings:
    phases = list(Phase) if TIMES > 1 else [Phase.explicit, Phase.generate]  # shrinking takes long
    return settings(max_examples=number * TIMES, phases=phases, **_ORDINARY)


def ends_well(model: Model, data: bytes, ports: Sequence[int], chosen: Any, times: int = 1) -> list[str]:
    """Fetch `times` times into one folder, each within bounds; the bench checks the invariants. Return the states."""
    states: list[str] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                bench = Bench(Path(folder) / "models")
                for _ in range(times):
                    outcome = bench.fetch(model, chosen)
                    states.append(outcome.state)
                    if outcome.state == "fetched":
                        bench.assert_fetched(outcome, data)
        except BaseException as error:  # noqa: BLE001 - it is raised in the test's own thread
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it does not end"
    if raised:
        raise raised[0]
    for port in ports:
        assert sockets_to(port) == 0
    return states


# ── behaviours, in any order and combination ──


SIZES = [1, 2, 100, 40_000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7, 6 * BLOCK + 4321]
OFFSETS = st.floats(0, 0.99) | st.integers(0, 7 * BLOCK)
STATUSES = ["400", "401", "403", "404", "410", "416", "429", "500", "503", "429-once-seconds", "401-gated", "404-entry"]
WORKING = [
    "healthy", "no-ranges", "no-ranges-chunked", "chunked", "weak-etag", "no-etag", "http10", "close", "total-star",
    "redirect", "redirect-elsewhere", "expiring", "early-hints", "folded-headers", "redirect-chain", "connection-limit",
]  # fmt: skip
LYING = [
    "login-page", "json-error", "lfs-pointer", "stub", "empty", "204", "pickle", "pickle-same-size", "header-only",
    "range-answered-whole", "range-answered-200", "range-wrong-start", "range-other-part", "range-lies",
    "range-wrong-last", "range-wrong-total", "range-no-header", "range-nonsense", "range-longer",
    "range-longer-chunked", "range-multipart", "206-unrequested", "etag-changes", "replaced", "replaced-longer",
    "replaced-shorter", "replaced-no-etag", "replaced-silently", "gzip", "gzip-header-only", "length-missing",
    "length-low", "length-high", "length-zero", "length-negative", "length-twice", "endless-chunked", "bad-chunks",
    "bad-chunks-negative", "bad-chunks-huge", "chunks-unended", "not-http", "status-999", "huge-header",
    "redirect-loop", "redirect-nowhere", "redirect-to-private", "redirect-to-file",
    "close-before-status", "reset-before-status",
]  # fmt: skip


@st.composite
def one(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Draw one behaviour and its parameters."""
    kind = draw(st.sampled_from(["working", "lying", "cut", "cut", "flip", "short", "status", "stall"]))
    if kind == "cut":
        ending = draw(st.sampled_from(["close", "reset", "close", "reset", "stall"]))
        return "cut", {"at": draw(OFFSETS), "ending": ending}
    if kind == "flip":
        return "flip", {"at": draw(st.lists(st.integers(0, 7 * BLOCK), min_size=1, max_size=3))}
    if kind == "short":
        return "shorter-range", {"limit": draw(st.integers(60_000, 2 * BLOCK))}
    names = {"working": WORKING, "lying": LYING, "status": STATUSES, "stall": ["stall-before-status"]}[kind]
    return draw(st.sampled_from(names)), {}


@st.composite
def rule(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Draw a behaviour and its scope; one that stalls does not apply to all requests."""
    name, params = draw(one())
    scope: dict[str, Any] = {"after": draw(st.integers(0, 5)), "times": draw(st.integers(1, 3) | st.none())}
    if "stall" in name or params.get("ending") == "stall" or (scope["times"] is None and draw(st.booleans())):
        scope["times"] = 1
    if draw(st.booleans()):
        scope[draw(st.sampled_from(["only_ranges", "not_first", "only_whole"]))] = True
    return name, params | scope


@examples(50)
@given(
    size=st.sampled_from(SIZES), seed=st.integers(0, 3), judged=st.booleans(), locked=st.booleans(),
    programs=st.lists(st.lists(rule(), max_size=4), min_size=1, max_size=2), connections=st.integers(1, 6),
)  # fmt: skip
def test_any_sequence_of_behaviours(
    size: int, seed: int, judged: bool, locked: bool, programs: list[list[Any]], connections: int
) -> None:
    judged = judged and size >= 40_000
    data = vae(size, seed=seed) if judged else random.Random(seed).randbytes(size)
    hosts = ["127.0.0.1", "localhost"]
    with Mirror() as mirror:
        sources = []
        for number, program in enumerate(programs):
            path = f"/{number}/resolve/x"
            mirror.files[path] = data
            mirror.behave(path, *(behaviour(name, **params) for name, params in program))
            sources.append(mirror.url(path, host=hosts[number]))
        make = model_of if judged else pickled
        model = make(data, *sources).model_copy(update={} if locked else {"size": None})
        chosen = options(0.3, retries=1, patience=0.1, backoff=0.01, connections=connections)
        ends_well(model, data, [mirror.port], chosen, times=2)
        # And once the server works, the file is fetched.
        mirror.reset()
        states = ends_well(model, data, [mirror.port], options())
        assert states == ["fetched"]


# ── stopped at any moment, and resumed ──


@examples(8)
@given(
    moments=st.lists(st.floats(0, 0.3), min_size=1, max_size=3), rate=st.sampled_from([1_000_000, 4_000_000]),
    ranges=st.booleans(),
)  # fmt: skip
def test_stopped_at_any_moment(moments: list[float], rate: int, ranges: bool) -> None:
    from gesso.models.download.model_download import Stopped

    data = vae(4 * BLOCK + 99)
    with Mirror({"/x": data}) as mirror, tempfile.TemporaryDirectory() as folder:
        rules = [behaviour("slow", rate=rate)] + ([] if ranges else [behaviour("no-ranges")])
        mirror.behave("/x", *rules)
        bench, model = Bench(Path(folder) / "models"), model_of(data, mirror.url("/x"))
        for moment in moments:
            stop = threading.Event()
            timer = threading.Timer(moment, stop.set)
            timer.start()
            with contextlib.suppress(Stopped):
                bench.fetch(model, stop=stop)
            timer.join()
        mirror.reset()
        assert bench.fetch(model).state in {"fetched", "there"}
        assert bench.bytes_of(model) == data
        if ranges:
            assert sum(record.sent for record in mirror.requests) <= len(data)


# ── any partial file and journal ──


@examples(40)
@given(
    partial=st.binary(max_size=100) | st.just(vae(3 * BLOCK)) | st.just(bytes(3 * BLOCK)) | st.none(),
    flags=st.lists(st.sampled_from([0, 1, 2, 255]), min_size=2, max_size=4) | st.none(),
    head=st.sampled_from(["right", "other", "garbage", "none"]), name=st.sampled_from(["healthy", "no-ranges"]),
)  # fmt: skip
def test_any_leftovers(partial: bytes | None, flags: list[int] | None, head: str, name: str) -> None:
    import json

    data = vae(3 * BLOCK, seed=7)
    with Mirror({"/x": data}) as mirror, tempfile.TemporaryDirectory() as folder:
        mirror.behave("/x", name)
        bench, model = Bench(Path(folder) / "models"), model_of(data, mirror.url("/x"))
        paths = [at(model.name, model.sha256) for at in (bench.folder.partial, bench.folder.journal)]
        paths[0].parent.mkdir(parents=True)
        if partial is not None:
            paths[0].write_bytes(partial)
        if flags is not None:
            size = len(data) if head == "right" else 17
            about = {"format": 1, "sha256": model.sha256, "size": size, "block": BLOCK}
            start = {"garbage": b"\xff" * 4096, "none": b""}.get(head, json.dumps(about).encode().ljust(4096))
            paths[1].write_bytes(start + bytes(flags))
        bench.assert_fetched(bench.fetch(model), data)


# ── bytes that are hardly HTTP ──


class Raw:
    """A server that sends these bytes, one after the other, whatever the request, and then closes or waits."""

    def __init__(self, answers: Sequence[bytes], *, keep: bool) -> None:
        self._answers, self._keep = answers, keep
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._given = 0
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        with self._guard:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        threads = []
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with self._guard:
                    self._open.append(sock)
                threads.append(threading.Thread(target=self._serve, args=(sock,), daemon=True))
                threads[-1].start()
        with self._guard:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while True:
                received = b""
                while b"\r\n\r\n" not in received:
                    more = sock.recv(65536)
                    if not more:
                        return
                    received += more
                with self._guard:
                    answer = self._answers[min(self._given, len(self._answers) - 1)]
                    self._given += 1
                sock.sendall(answer)
                if not self._keep:
                    return


RAW = random.Random(3).randbytes(3000)
HEADERS = [
    b"Content-Length: 3000", b"Content-Length: 2999", b"Content-Length: 3001", b"Content-Length: -1",
    b"Content-Length: 3000, 3000", b"Content-Length: 0x10", b"content-length:3000", b"Content-Length: \xb2",
    b"Content-Range: bytes 0-2999/3000", b"Content-Range: bytes 0-2999/*", b"Content-Range: bytes 0-99/3000",
    b"Content-Range: bytes 1-2999/3000", b"Content-Range: bytes */3000", b"Content-Range: bytes 5-1/3000",
    b"Content-Range: bytes 0-99999999999999999999/3000", b"Content-Range: BYTES 0-2999/3000",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity",
    b"Content-Encoding: gzip", b"Content-Encoding: \x1b[31mred", b"Content-Encoding:",
    b"Content-Type: multipart/byteranges",
    b"Connection: close", b"Connection: keep-alive", b"ETag: \"a\"", b"ETag: W/\"a\"", b"ETag: ",
    b"Location: /", b"Location: http://[::1", b"Location: //", b"Location: http://127.0.0.1:99999/", b"Location: \xff",
    b"Location: ?", b"Location: #", b"Location: http://user:pass@127.0.0.1:1/", b"Location: https://%00/",
    b"Location: http://localhost:1/", b"Location: https://" + b"a" * 300, b"Location: https://a..b/", b"Location: https://xn--/",
    b"Retry-After: 1e9", b"Retry-After: -5", b"Retry-After: 99999999999999999999", b"Retry-After: Thu, 99 Foo 2000",
    b"Retry-After: \xb2", b"X-Linked-ETag: \"" + b"0" * 64 + b"\"", b"X-Linked-Size: 5", b"X-Error-Code: GatedRepo",
    b": nothing", b"no colon", b" folded", b"X: " + b"y" * 70_000, b"\x00: \x00",
]  # fmt: skip
FIRST = [
    b"HTTP/1.1 206 Partial", b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 302 Found", b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 101 Switching", b"HTTP/1.1 204 No", b"HTTP/1.1 304 Not", b"HTTP/1.1 401 Un", b"HTTP/1.1 403 No",
    b"HTTP/1.1 416 No", b"HTTP/1.1 429 Slow", b"HTTP/1.1 503 Busy", b"HTTP/1.1 000 Odd", b"HTTP/1.1 99 Odd",
    b"HTTP/1.1 1000 Odd", b"HTTP/1.1 -200 Odd", b"HTTP/1.1 2\xb26 Odd", b"HTTP/2 200", b"ICY 200 OK", b"",
    b"\x16\x03\x01",
]  # fmt: skip
BODIES = [
    RAW, RAW[:2999], RAW + b"x", b"", b"bb8\r\n" + RAW + b"\r\n0\r\n\r\n", b"bb8\r\n" + RAW, b"0\r\n\r\n",
    b"-1\r\n" + RAW, b"<html>" + RAW[6:], b"ffffffffffffffff\r\n" + RAW,
    b"bb8;a=b\r\n" + RAW + b"\r\n0\r\nTrailer: x\r\n\r\n", RAW[::-1],
]  # fmt: skip


@st.composite
def answer(draw: st.DrawFn) -> bytes:
    """Draw a response: assembled from parts that may or may not match, and perhaps damaged."""
    kind = draw(st.sampled_from(["part", "redirect", "refusal", "free"]))
    if kind == "part":
        lines = [FIRST[0], HEADERS[0], HEADERS[8], *draw(st.lists(st.sampled_from(HEADERS), max_size=2))]
    elif kind == "redirect":
        lines = [FIRST[3], draw(st.sampled_from([line for line in HEADERS if line.startswith(b"Location")]))]
    elif kind == "refusal":
        header_lines = [line for line in HEADERS if line.startswith((b"Retry-After", b"X-Error"))]
        lines = [draw(st.sampled_from(FIRST[6:13])), draw(st.sampled_from(header_lines)), HEADERS[0]]
    else:
        lines = [draw(st.sampled_from(FIRST)), *draw(st.lists(st.sampled_from(HEADERS), max_size=6))]
    raw = b"\r\n".join([*lines, b"", draw(st.sampled_from(BODIES) | st.just(RAW))])
    for _ in range(draw(st.integers(0, 3)) if draw(st.booleans()) else 0):
        at = draw(st.integers(0, len(raw)))
        how = draw(st.sampled_from(["insert", "drop", "cut", "byte"]))
        if how == "insert":
            raw = raw[:at] + draw(st.binary(max_size=20)) + raw[at:]
        elif how == "drop":
            raw = raw[:at] + raw[at + draw(st.integers(1, 50)) :]
        elif how == "cut":
            raw = raw[:at]
        else:
            raw = raw[:at] + bytes([draw(st.integers(0, 255))]) + raw[at + 1 :]
    return raw


@examples(100)
@given(
    answers=st.lists(answer() | st.binary(max_size=200), min_size=1, max_size=4),
    locked=st.booleans(),
    keep=st.booleans(),
)
def test_bytes_that_are_hardly_http(answers: list[bytes], locked: bool, keep: bool) -> None:
    with Raw(answers, keep=keep) as server:
        model = pickled(RAW, f"http://127.0.0.1:{server.port}/a/b/resolve/main/x", **({} if locked else {"size": None}))
        chosen = options(0.15, retries=1, backoff=0.01, patience=0.05)
        ends_well(model, RAW, [server.port], chosen)


def test_the_drawn_servers_can_work() -> None:
    """Otherwise the properties above would prove nothing."""
    good = b"\r\n".join([FIRST[0], HEADERS[0], HEADERS[8], b"", RAW])
    with Raw([good], keep=True) as server:
        model = pickled(RAW, f"http://127.0.0.1:{server.port}/x")
        assert ends_well(model, RAW, [server.port], options()) == ["fetched"]
    assert hashlib.sha256(RAW).hexdigest() == model.sha256
    assert NAME.endswith(".safetensors")


@pytest.mark.parametrize("coding", [b"\x1b[31mred", b"a\x07b", b"\xff\xfe"])
def test_no_control_characters_of_a_server_reach_a_terminal(coding: bytes) -> None:
    raw = b"\r\n".join([FIRST[0], HEADERS[0], HEADERS[8], b"Content-Encoding: " + coding, b"", RAW])
    with Raw([raw], keep=True) as server:
        model = pickled(RAW, f"http://127.0.0.1:{server.port}/x")
        assert ends_well(model, RAW, [server.port], options()) == ["failed"]
