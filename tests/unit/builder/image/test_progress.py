"""BuildKit's progress as events, and the error of a failed build, from the output of real failures."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gesso.builder.image.progress import Finished, Progress, Started, Transfer, failure
from gesso.errors import BuildError, FetchError, GessoError

STEP = {
    "digest": "sha256:aa",
    "name": "[system 2/4] RUN --mount=type=secret,id=ca   . /run/net.sh && apt-get update",
}
NAME = "[system 2/4] RUN . /run/net.sh && apt-get update"
START, END = "2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:02.623456789Z"


def _vertex(**more: Any) -> dict[str, Any]:
    return {"vertexes": [{**STEP, **more}]}


def _log(text: str) -> dict[str, Any]:
    return {"logs": [{"vertex": "sha256:aa", "data": base64.b64encode(text.encode()).decode()}]}


def _feed(progress: Progress, *statuses: dict[str, Any], indent: int | None = None) -> list[Any]:
    lines = [line for status in statuses for line in json.dumps(status, indent=indent).splitlines()]
    return [event for line in lines for event in progress.feed(line)]


@pytest.mark.parametrize("indent", [None, 1, 2])
def test_the_life_of_a_step(indent: int | None) -> None:
    """Compact, as buildx writes it today, and over many lines, as 0.13 did."""
    statuses = [
        _vertex(),
        _vertex(started=START),
        _vertex(started=START),
        {"statuses": [{"vertex": "sha256:aa", "id": "extracting", "current": 5, "total": 10}]},
        {"statuses": [{"vertex": "sha256:aa", "id": "extracting", "current": 10, "total": 10, "completed": END}]},
        {"statuses": [{"vertex": "sha256:aa", "id": "no total", "current": 10}]},
        _vertex(started=START, completed=END),
        _vertex(started=START, completed=END),
    ]
    assert _feed(Progress(), *statuses, indent=indent) == [
        Started(NAME),
        Transfer(f"{NAME}: extracting", 5, 10),
        Finished(NAME, 2.5, cached=False),
    ]


def test_a_step_from_the_cache_took_no_time() -> None:
    assert _feed(Progress(), _vertex(started=START, completed=END, cached=True)) == [Finished(NAME, 0.0, cached=True)]


@pytest.mark.parametrize(("start", "end"), [(None, END), ("nonsense", END), (END, START)])
def test_invalid_times_count_as_zero(start: str | None, end: str) -> None:
    assert _feed(Progress(), _vertex(started=start, completed=end)) == [Finished(NAME, 0.0, cached=False)]


def test_many_in_one_status() -> None:
    status = {"vertexes": [{"digest": n, "name": n, "started": START} for n in ("a", "b")]}
    assert _feed(Progress(), status) == [Started("a"), Started("b")]


def test_a_failed_step_is_recorded() -> None:
    progress = Progress()
    _feed(
        progress, _log("one\ntwo https://me:pw@host/x\n\n"), _vertex(started=START, error="exit code: 1 https://a:b@c")
    )
    assert list(progress.log) == ["one", "two https://***@host/x"]
    assert (progress.failed, progress.error) == (NAME, "exit code: 1 https://***@c")


def test_a_canceled_step_did_not_fail() -> None:
    progress = Progress()
    _feed(progress, _vertex(error="process did not complete: context canceled"))
    assert (progress.failed, progress.error) == ("", "")


def test_other_lines_are_kept() -> None:
    progress = Progress()
    for line in ("ERROR: failed to solve", "", "   ", "WARNING: x", '{"vertexes": nonsense}', "{}"):
        assert progress.feed(line) == []
    assert list(progress.other) == ["ERROR: failed to solve", "WARNING: x", '{"vertexes": nonsense}']


@pytest.mark.parametrize("line", ["{", "{half of", '{"vertexes": [', "{x} and more"])
def test_a_line_that_only_starts_like_an_object_hides_no_other_line(line: str) -> None:
    progress = Progress()
    progress.feed(line)
    progress.feed("ERROR: in between")
    assert _feed(progress, _vertex(started=START)) == [Started(NAME)]
    assert list(progress.other) == [line, "ERROR: in between"]


def test_memory_is_bounded() -> None:
    progress = Progress()
    for n in range(999):
        progress.feed(f"line {n}")
        _feed(progress, _log(f"log {n}"))
    assert len(progress.other) == len(progress.log) == 40
    assert progress.log[-1] == "log 998"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    ["digest", "name", "error", "started", "completed", "cached", "vertex", "id", "current", "total", "data"]
)
_ITEMS = st.lists(st.dictionaries(_KEYS, _JSON, max_size=5) | _JSON, max_size=3) | _JSON
_STATUS = st.dictionaries(st.sampled_from(["vertexes", "statuses", "logs"]), _ITEMS, max_size=3)


@settings(max_examples=50)
@given(st.lists(st.text(max_size=20) | st.sampled_from(["{", "}", " }", "{}"]) | _STATUS.map(json.dumps), max_size=8))
def test_garbage_never_raises(lines: list[str]) -> None:
    progress = Progress()
    for line in lines:
        progress.feed(line)
    progress.feed("}")
    assert isinstance(failure(progress, "\n".join(lines)), GessoError)
    assert _feed(progress, _vertex(started=START)) in ([Started(NAME)], [])


@pytest.mark.parametrize(
    "text",
    [
        '{"statuses": [{"total": 1e999}]}',
        '{"a": ' + "[" * 100_000 + "}",
        '{"vertexes": [{"digest": []}]}',
        '{"logs": [{"data": "*"}]}',
        '{"logs": [{"data": 5}]}',
    ],
)
def test_invalid_values(text: str) -> None:
    progress = Progress()
    assert not [event for event in progress.feed(text) if not isinstance(event, Started)]
    assert _feed(progress, _vertex(started=START)) == [Started(NAME)]


# --- what went wrong

PIP_CONFLICT = """\
The conflict is caused by:
    The user requested sqlalchemy==1.4.54
    The user requested (constraint) sqlalchemy==2.0.58
ERROR: ResolutionImpossible: for help visit the documentation"""
UV_FETCH = """\
error: Failed to fetch: http://127.0.0.1:9/simple/torch/
  cause: error sending request for url (http://127.0.0.1:9/simple/torch/)
  cause: client error (Connect)
  cause: tcp connect error
  cause: Connection refused (os error 111)"""
UV_HASH = """\
error: Failed to download `torch==2.13.0`
  cause: Hash mismatch for `torch==2.13.0`
         Expected:
           sha256:aaaa"""
PIP_HASH = """\
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated
    uv==0.9 from https://host/uv.whl (from -r r.txt (line 1)):"""
PIP_DEAD = """\
WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('Failed to establish a new connection:
ERROR: No matching distribution found for uv==0.9"""
NO_BASE = (
    "ERROR: failed to build: failed to solve: debian:trixie-slim@sha256:00: failed to resolve source metadata for "
    'docker.io/library/debian:trixie-slim@sha256:00: failed to do request: Head "https://registry-1.docker.io/v2/": '
    "dial tcp: lookup registry-1.docker.io: no such host"
)
DENIED = "ERROR: failed to solve: example.org/team/base:1: pull access denied, repository does not exist"
NO_FILE = 'failed to calculate checksum of ref x::y: "/sources/nodes/x": not found'


@pytest.mark.parametrize(
    ("where", "text", "kind", "message", "next_step"),
    [
        ("log", "tar: write error: No space left on device", BuildError, "the engine's disk is full", "larger disk"),
        ("error", "write /x: no space left on device", BuildError, "the engine's disk is full", "docker system prune"),
        (
            "other", NO_BASE, FetchError,
            "base image docker.io/library/debian:trixie-slim@sha256:00 cannot be pulled", "registry can be reached",
        ),
        ("other", DENIED, FetchError, "base image example.org/team/base:1 cannot be pulled", "registry can be reached"),
        (
            "other", 'failed to push: Get "http://localhost:5000/v2/": dial tcp [::1]:5000: no route to host',
            FetchError, "a registry does not answer", "are kept",
        ),
        ("other", "dial tcp 10.0.0.1:443: connect: connection refused", FetchError, "a registry does not", "are kept"),
        ("log", UV_HASH, BuildError, "a package does not match its hash in the lock", "do not build from that index"),
        ("log", PIP_HASH, BuildError, "a package does not match its hash in the lock", "do not build from that index"),
        ("log", UV_FETCH, FetchError, "a package index cannot be reached from inside the build", "UV_DEFAULT_INDEX"),
        ("log", PIP_DEAD, FetchError, "a package index cannot be reached from inside the build", "PIP_INDEX_URL"),
        (
            "log", "E: Failed to fetch http://deb.debian.org/x  Temporary failure resolving 'deb.debian.org'",
            FetchError, "a package index cannot be reached from inside the build", "proxy",
        ),
        (
            "log", PIP_CONFLICT, BuildError, "a node pack's install script requires what the lock forbids",
            "locked versions never change",
        ),
        (
            "log", "ERROR: Cannot install foo==1 because these package versions have conflicting dependencies.",
            BuildError, "a node pack's install script requires what the lock forbids", "leave out the pack",
        ),
        ("log", "/bin/sh: 1: curl: not found", BuildError, "the build failed: /bin/sh: 1: curl: not found", "fix it"),
        ("error", NO_FILE, BuildError, "the build failed: " + NO_FILE, "fix it"),
    ],
)  # fmt: skip
def test_known_failures(where: str, text: str, kind: type[GessoError], message: str, next_step: str) -> None:
    progress = Progress()
    if where == "log":
        _feed(progress, _log(text), _vertex(error="process did not complete successfully: exit code: 2"))
    elif where == "error":
        _feed(progress, _vertex(error=text))
    else:
        _feed(progress, _vertex(started=START, error="failed"))
        for line in text.splitlines():
            progress.feed(line)
    error = failure(progress, "\n".join(progress.other))
    assert type(error) is kind
    assert error.exit_code == {BuildError: 6, FetchError: 4}[kind]
    assert error.message.startswith(message)
    assert error.message.endswith(f"(step: {NAME})")
    assert next_step in error.next_step
    assert "\n" not in error.message


def test_the_message_quotes_the_matching_line() -> None:
    progress = Progress()
    _feed(progress, _log("before\nwrite /x: no space left on device\nafter"))
    assert failure(progress, "").message == "the engine's disk is full: write /x: no space left on device"


def test_an_unknown_failure_names_the_step_and_the_last_lines() -> None:
    progress = Progress()
    _feed(progress, _log("1\n2\nIMPORT FAILED: pack\nTraceback\nValueError: no"), _vertex(error="exit code: 1"))
    error = failure(progress, "")
    assert type(error) is BuildError
    assert error.message == f"the build failed: IMPORT FAILED: pack | Traceback | ValueError: no (step: {NAME})"
    assert error.next_step


def test_a_builder_that_cannot_export_a_cache() -> None:
    """The output of buildx 0.13, which reports it before any step."""
    progress = Progress()
    for line in (
        "ERROR: Cache export is not supported for the docker driver.",
        "Switch to a different driver, or turn on the containerd image store, and try again.",
        "Learn more at the pages of the build cache",
    ):
        progress.feed(line)
    error = failure(progress, "\n".join(progress.other))
    assert type(error) is BuildError
    assert error.message.startswith("this builder cannot write a cache to a registry: ERROR: Cache export is not")
    assert "docker-container" in error.next_step


def test_a_failure_without_a_log() -> None:
    progress = Progress()
    _feed(progress, _vertex(error="exit code: 7"))
    assert "exit code: 7" in failure(progress, "").message
    progress = Progress()
    progress.feed("ERROR: no builder found")
    assert failure(progress, "").message == "the build failed: ERROR: no builder found"


@pytest.mark.parametrize("text", ["Failed to fetch: https://me:hunter2@host/simple", "odd https://me:hunter2@host/x"])
@pytest.mark.parametrize("where", ["log", "other", "error", "output"])
def test_no_credentials_in_any_message(where: str, text: str) -> None:
    progress = Progress()
    if where == "log":
        _feed(progress, _log(text))
    elif where == "error":
        _feed(progress, _vertex(error=text))
    elif where == "other":
        progress.feed(text)
    message = str(failure(progress, text if where == "output" else ""))
    assert "hunter2" not in message
    assert "***@host" in message or where == "output"


def test_a_step_that_ended_does_not_start_again() -> None:
    start, end = "2026-01-01T00:00:00.0Z", "2026-01-01T00:00:01.0Z"
    events = _feed(Progress(), _vertex(started=start, completed=end), _vertex(started=end))
    assert [type(event).__name__ for event in events] == ["Finished"]
