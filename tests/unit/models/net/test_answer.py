"""The head of an answer, read strictly: what it says of length and range makes sense, or it is a fault."""

from __future__ import annotations

import http.client
import socket
import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gesso.models.faults import SourceError
from gesso.models.net.answer import Response, retry_after
from gesso.models.net.client import Client
from gesso.models.net.http import HttpConnection
from gesso.models.net.source import Source, check_part
from tests.unit.models.making import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


def part(said: str, status: int = 206) -> tuple[int, int, int | None] | None:
    return answer(status, {"Content-Range": said}).range


# ── length ──


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        (b"\r\n", None),
        (b"Content-Length: 0\r\n\r\n", 0),
        (b"content-length:  42 \r\n\r\n", 42),
        (b"Content-Length: 42\r\nContent-Length: 42\r\n\r\n", 42),
        (b"Content-Length: 42\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        (b"Content-Length: 999999999999999999\r\n\r\n", 10**18 - 1),
    ],
)
def test_the_length(headers: bytes, length: int | None) -> None:
    assert answer(200, headers).length == length


@pytest.mark.parametrize("said", ["-1", "1.5", "0x10", "1e9", "forty", "", "9" * 19, "1 2", "+5", "1_000"])
def test_a_length_that_is_no_number_is_a_fault(said: str) -> None:
    with pytest.raises(SourceError, match="Content-Length") as caught:
        _ = answer(200, {"Content-Length": said}).length
    assert caught.value.why == "bad-answer"


def test_two_lengths_are_a_fault() -> None:
    with pytest.raises(SourceError):
        _ = answer(200, b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n").length


# ── range ──


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("bytes 0-0/1", (0, 1, 1)),
        ("bytes 5-9/10", (5, 10, 10)),
        ("bytes 5-9/*", (5, 10, None)),
        ("Bytes  5-9/10 ", (5, 10, 10)),
        ("bytes 524288-1048575/7105348188", (524_288, 1_048_576, 7_105_348_188)),
    ],
)
def test_the_range(said: str, found: tuple[int, int, int | None]) -> None:
    assert part(said) == found


def test_an_answer_that_is_no_part_has_no_range() -> None:
    assert part("bytes 0-0/1", 200) is None


@pytest.mark.parametrize(
    "said",
    [
        "", "bytes", "bytes */10", "bytes 9-5/10", "bytes 5-10/10", "bytes 5-9/9", "bytes -5-9/10", "5-9/10",
        "bytes 5-9", "bytes 5-/10", "bytes=5-9/10", "items 5-9/10", "bytes 5-9/10, 11-12/13", "bytes 0x1-9/10",
        f"bytes {'9' * 19}-{'9' * 20}/*", "bytes 5-9/-1", "bytes 5-9/1.5",
    ],
)  # fmt: skip
def test_a_part_that_does_not_say_which_it_is(said: str) -> None:
    with pytest.raises(SourceError) as caught:
        part(said)
    assert (caught.value.why, caught.value.transient) == ("bad-range", False)
    assert len(caught.value.message) < 200


def test_a_part_without_any_range_is_a_fault() -> None:
    with pytest.raises(SourceError, match="without saying which"):
        _ = answer(206, {}).range


RANGES = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda a, b, c, unit: f"{unit} {a}-{b}/{c}".encode(),
        st.integers(-5, 10**19), st.integers(-5, 10**19), st.integers(-5, 10**19) | st.just("*"),
        st.sampled_from(["bytes", "BYTES", "items", ""]),
    ),
)  # fmt: skip
HEADERS = st.lists(
    st.tuples(st.sampled_from([b"Content-Range", b"Content-Length", b"Transfer-Encoding", b"ETag"]), RANGES), max_size=4
)


@settings(max_examples=150)
@given(HEADERS, st.sampled_from([200, 206]))
def test_any_header_text_makes_sense_or_is_a_source_error(made: list[tuple[bytes, bytes]], status: int) -> None:
    lines = b"".join(name + b": " + value.translate(None, b"\r\n") + b"\r\n" for name, value in made)
    found = answer(status, lines + b"\r\n")
    fault = None
    try:
        length = found.length
        assert length is None or 0 <= length < 10**18
        if (which := found.range) is not None:
            start, end, total = which
            assert 0 <= start < end <= 10**18
            assert total is None or end <= total
        assert found.etag is None or not found.etag.startswith("W/")
    except SourceError as raised:
        fault = raised
    assert fault is None or (fault.why in {"bad-answer", "bad-range"} and fault.next_step)


# ── the validator ──


@pytest.mark.parametrize(
    ("said", "found"), [('"abc"', '"abc"'), (' "abc" ', '"abc"'), ('W/"abc"', None), ("", None), ("abc", "abc")]
)
def test_a_weak_etag_binds_nobody(said: str, found: str | None) -> None:
    assert answer(200, {"ETag": said}).etag == found


def test_an_answer_without_etag_has_none() -> None:
    assert answer(200, {}).etag is None


# ── the part that was asked for ──


def known(size: int | None = 100, etag: str | None = '"a"') -> Source:
    return Source("https://h/f", "https://h/f", HttpConnection(Client({})), True, size, etag, 0, bytearray())


def checked(said: str, source: Source | None = None, status: int = 206, more: Mapping[str, str] | None = None) -> int:
    return check_part(answer(status, {"Content-Range": said, **(more or {})}), 10, 20, source)


def test_the_part_that_was_asked_for_or_the_beginning_of_it() -> None:
    assert checked("bytes 10-19/100") == 10
    assert checked("bytes 10-14/100") == 5
    assert checked("bytes 10-19/*", known()) == 10
    assert checked("bytes 10-19/100", known(), more={"Content-Length": "10", "ETag": '"a"'}) == 10
    assert (
        checked("bytes 10-19/100", known(), more={"ETag": 'W/"b"'}) == 10
    )  # a weak one may change while the bytes stay


@pytest.mark.parametrize("said", ["bytes 0-9/100", "bytes 11-19/100", "bytes 10-20/100", "bytes 9-18/100"])
def test_another_part_is_a_fault(said: str) -> None:
    with pytest.raises(SourceError) as caught:
        checked(said)
    assert caught.value.why == "bad-range"


@pytest.mark.parametrize("length", ["9", "11", "0"])
def test_a_body_of_another_length_than_its_range(length: str) -> None:
    with pytest.raises(SourceError, match="a body of"):
        checked("bytes 10-19/100", more={"Content-Length": length})


def test_the_whole_file_in_answer_to_a_part() -> None:
    with pytest.raises(SourceError, match="the whole file") as caught:
        checked("", status=200)
    assert caught.value.why == "bad-range"


@pytest.mark.parametrize(
    ("said", "etag"), [("bytes 10-19/101", '"a"'), ("bytes 10-19/99", '"a"'), ("bytes 10-19/100", '"b"')]
)
def test_a_file_that_was_replaced_meanwhile(said: str, etag: str) -> None:
    with pytest.raises(SourceError) as caught:
        checked(said, known(), more={"ETag": etag})
    assert caught.value.why == "changed"


@given(RANGES, st.integers(0, 200), st.integers(1, 200), st.none() | st.integers(0, 300))
def test_any_part_is_within_what_was_asked_or_a_source_error(
    said: bytes, start: int, length: int, total: int | None
) -> None:
    head = b"Content-Range: " + said.translate(None, b"\r\n") + b"\r\n\r\n"
    why = ""
    try:
        assert 1 <= check_part(answer(206, head), start, start + length, known(total)) <= length
    except SourceError as raised:
        why = raised.why
    assert why in {"", "bad-range", "changed"}


# ── interim answers; Retry-After ──


@pytest.fixture
def begun() -> Iterator[Callable[..., Response]]:
    """Read the head of an answer off a socket."""
    ends: list[socket.socket] = []

    def begun(data: bytes, within: float = 30) -> Response:
        ours, theirs = socket.socketpair()
        ends.extend((ours, theirs))
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        response = Response(ours, method="GET", within=within)
        ends.append(response)  # type: ignore[arg-type]
        response.begin()
        return response

    yield begun
    for each in reversed(ends):
        each.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"


@pytest.mark.parametrize("before", [b"", HINTS, b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_interim_answers_are_stepped_over(begun: Callable[..., Response], before: bytes) -> None:
    response = begun(before * 3 + OK)
    assert (response.status, response.read()) == (200, b"hi")


def test_interim_answers_without_end_are_no_answer(begun: Callable[..., Response]) -> None:
    with pytest.raises(http.client.HTTPException, match="interim"):
        begun(HINTS * 500 + OK)


def test_a_head_that_drips_in_is_given_up(begun: Callable[..., Response]) -> None:
    """Each byte resets a socket's own time limit: a server could keep us for ever."""
    with pytest.raises(TimeoutError):
        begun(OK, within=-1)


def test_the_time_limit_of_a_head_is_none_of_the_body(
    begun: Callable[..., Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    response = begun(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
    later = time.monotonic() + 1_000
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert len(response.read()) == 100_000


def test_switching_protocols_is_an_answer(begun: Callable[..., Response]) -> None:
    assert begun(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").status == 101


@pytest.mark.parametrize(
    ("said", "seconds"), [(None, None), ("0", 0), ("120", 120), (" 7 ", 7), ("", None), ("soon", None)]
)
def test_retry_after_as_a_number(said: str | None, seconds: float | None) -> None:
    assert retry_after(said) == seconds


def test_retry_after_as_a_date() -> None:
    later = retry_after(formatdate(time.time() + 3_600, usegmt=True))
    assert later is not None
    assert 3_500 < later <= 3_600
    assert retry_after(formatdate(time.time() - 3_600, usegmt=True)) == 0
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


DATES = st.builds(
    lambda day, n, month, year, clock, zone: f"{day} {n} {month} {year} {clock} {zone}",
    st.sampled_from(["Wed,", "", "Xyz,"]), st.integers(-1, 99999), st.sampled_from(["Oct", "Foo", "10"]),
    st.integers(0, 99999), st.sampled_from(["07:28:00", "99:99:99", "7", ":", "1.2.3.4"]),
    st.sampled_from(["GMT", "+9999", "-0000", "+99999999", ""]),
)  # fmt: skip


@settings(max_examples=150)
@given(st.text(max_size=40) | DATES)
def test_any_retry_after_is_a_wait_or_nothing(said: str) -> None:
    found = retry_after(said)
    assert found is None or found >= 0
