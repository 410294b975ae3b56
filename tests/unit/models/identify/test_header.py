"""Headers, good and hostile: only what adds up is believed, and nothing makes the reader ask for much."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import pytest

from gesso.errors import VerifyError
from gesso.models.identify import gguf as gguf_format
from gesso.models.identify.header import FIRST, HeaderError, Tensor, read_header
from gesso.models.identify.tensors import short
from tests.unit.models.conftest import Reader, gguf, gguf_file, head_of, raw, text

DATA = Path(__file__).with_name("data")
ONE = {"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}


def entry(dtype: object = "U8", shape: object = (4,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def refused(data: bytes, size: int | None = None) -> HeaderError:
    reader = Reader(data, size)
    with pytest.raises(HeaderError) as caught:
        read_header(reader, reader.size)
    assert isinstance(caught.value, VerifyError)
    assert caught.value.next_step
    assert len(str(caught.value)) < 400
    assert str(caught.value).isascii()
    return caught.value


def test_a_sound_file() -> None:
    data = raw({"__metadata__": {"who": "me"}, **ONE, "b": entry("F16", [2, 3], [4, 16])["a"]}, 16)
    reader = Reader(data)
    header = read_header(reader, len(data))
    assert header.tensors == {"a": Tensor("U8", (4,)), "b": Tensor("F16", (2, 3))}
    assert (header.format, header.metadata, header.end) == ("safetensors", {"who": "me"}, len(data))
    assert header.length == len(data) - 16
    assert len(reader.asked) == 1


@pytest.mark.parametrize(
    "data",
    [
        raw({}),
        raw(b"{}      "),
        raw(entry(shape=[], offsets=[0, 1]), 1),
        raw(entry(shape=[0, 7], offsets=[0, 0])),
        raw(entry("F4", [3, 2], [0, 3]), 3),
        raw(entry("F6_E2M3", [4], [0, 3]), 3),
        raw({"z": entry(shape=[0], offsets=[4, 4])["a"], **ONE}, 4),
    ],
)
def test_odd_but_legal(data: bytes) -> None:
    assert read_header(Reader(data), len(data)).end == len(data)


def test_a_long_header_takes_two_reads_and_no_byte_twice() -> None:
    data, size = head_of({f"block.{i:06}.weight": [320, 320, 3, 3] for i in range(12_000)})
    assert FIRST < len(data) < 1_500_000
    reader = Reader(data, size)
    assert len(read_header(reader, size).tensors) == 12_000
    assert reader.asked == [FIRST, len(data) - FIRST]


PLAIN, EMPTY = (b'{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}' % (n, n) for n in (1, 0))
HOSTILE = {
    "no JSON": (raw(b'{"a": nonsense}'), "is not described"),
    "no comma": (raw(b'{"a":' + PLAIN + b' "b":' + PLAIN + b"}"), "no JSON"),
    "no colon": (raw(b'{"a"' + PLAIN + b"}"), "no JSON"),
    "no end": (raw(b'{"a":' + PLAIN), "no JSON"),
    "no key": (raw(b"{1:" + PLAIN + b"}"), "no JSON"),
    "a comma more": (raw(b'{"a":' + PLAIN + b",}"), "no JSON"),
    "a bad escape": (raw(b'{"\\q":' + PLAIN + b"}"), "no JSON"),
    "a half escape": (raw(b'{"\\u12":' + PLAIN + b"}"), "no JSON"),
    "a line break in a name": (raw(b'{"a\n":' + PLAIN + b"}"), "no JSON"),
    "a long name": (raw(b'{"' + b"n" * 5_000 + b'":' + PLAIN + b"}"), "a name of 5,002 bytes"),
    "a long entry": (
        raw(b'{"a":{"dtype":"U8","shape":[],' + b" " * 5_000 + b'"data_offsets":[0,1]}}'),
        "not described",
    ),
    "too many tensors": (raw(b"{" + b",".join(b'"%x":%b' % (n, EMPTY) for n in range(100_001)) + b"}"), "entries"),
    "too much metadata": (raw({"__metadata__": {str(n): "" for n in range(10_001)}}), "entries"),
    "metadata twice": (raw(b'{"__metadata__":{},"__metadata__":{}}'), "'__metadata__' twice"),
    "metadata with a key twice": (raw(b'{"__metadata__":{"a":"","a":""}}'), "'a' twice"),
    "metadata, no UTF-8": (raw(b'{"__metadata__":{"a":"' + b"x" * 99_999 + b'\xff"}}'), "no JSON"),
    "no UTF-8": (raw(b'{"\xff": 1}'), "no JSON"),
    "not an object": (raw(b"[1, 2]"), "begins with"),
    "space first": (raw(b' {"a": 1}'), "begins with"),
    "text after": (raw(b"{} x"), "no JSON"),
    "deep": (raw(b'{"a":' * 90_000), "is not described"),
    "deep and closed": (raw(b'{"a":' + b"[" * 90_000 + b"]" * 90_000 + b"}"), "is not described"),
    "deep in a shape": (raw(b'{"a":{"dtype":"U8","shape":' + b"[" * 2_000 + b"]" * 2_000 + b"}}"), "no JSON"),
    "as deep as JSON goes": (raw(entry(shape=json.loads("[" * 900 + "]" * 900)), 4), ""),
    "duplicate": (raw(b'{"a":' + PLAIN + b',"a":' + PLAIN + b"}"), "'a' twice"),
    "duplicate inside": (raw(b'{"a":{"dtype":"U8","dtype":"U8"}}'), "'dtype' twice"),
    "duplicate, escaped": (raw(b'{"a":' + PLAIN + b',"\\u0061":' + PLAIN + b"}"), "'a' twice"),
    "half a pair": (raw(b'{"\\ud800":1}'), "is not described"),
    "huge number": (raw(b'{"a":{"shape":[' + b"9" * 4_090 + b"]}}"), "is not described"),
    "metadata": (raw({"__metadata__": {"a": 1}}), "__metadata__"),
    "metadata a list": (raw({"__metadata__": []}), "__metadata__"),
    "no entry": (raw({"a": 1}), "is not described"),
    "entry too short": (raw({"a": {"dtype": "U8"}}), "is not described"),
    "entry too long": (raw({"a": {**ONE["a"], "more": 1}}, 4), "is not described"),
    "dtype": (raw(entry("F12"), 4), "dtype 'F12'"),
    "dtype a list": (raw(entry(["U8"]), 4), "dtype"),
    "shape a number": (raw(entry(shape=4), 4), "shape 4"),
    "negative": (raw(entry(shape=[-2, -2]), 4), "shape"),
    "float": (raw(entry(shape=[4.0]), 4), "whole numbers"),
    "NaN": (raw(b'{"a":{"shape":[NaN]}}'), "whole numbers"),
    "bool": (raw(entry(shape=[True, 4]), 4), "shape"),
    "huge": (raw(entry(shape=[1 << 63]), 4), "shape"),
    "many dimensions": (raw(entry(shape=[1] * 33), 4), "shape"),
    "product wraps around": (raw(entry(shape=[1 << 32, 1 << 32, 4]), 4), "does not take"),
    "product is beyond float": (raw(entry(shape=[(1 << 63) - 1] * 32), 4), "does not take"),
    "one offset": (raw(entry(offsets=[4]), 4), "data_offsets"),
    "backwards": (raw(entry(offsets=[4, 0]), 4), "data_offsets"),
    "half bytes": (raw(entry("F4", [3], [0, 2]), 2), "does not take"),
    "wrong span": (raw(entry("F16"), 4), "does not take"),
    "first gap": (raw(entry(offsets=[4, 8]), 8), "follows a gap"),
    "gap": (raw({**ONE, "b": entry(offsets=[5, 9])["a"]}, 9), "follows a gap"),
    "overlap": (raw({**ONE, "b": entry(offsets=[2, 6])["a"]}, 6), "overlaps"),
    "same place": (raw({**ONE, "b": entry()["a"]}, 4), "overlaps"),
    "no header": (struct.pack("<Q", 0) + b"x" * 99, "0 bytes"),
    "absurd length": (b"\xff" * 99, "over the limit"),
    "absurd, seen as negative": (struct.pack("<q", -1) + b"{}", "over the limit"),
}


_LONG = {"too many tensors", "too much metadata"}  # a hundred thousand times the same lines


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.no_cover] if name in _LONG else []) for name in HOSTILE]
)
def test_hostile_headers(name: str) -> None:
    data, message = HOSTILE[name]
    error = refused(data)
    assert error.why == "malformed"
    assert message in error.message


def test_a_hundred_megabytes_of_json_are_refused_unread() -> None:
    reader = Reader(struct.pack("<Q", 100_000_000) + b'{"a', 7_000_000_000)
    with pytest.raises(HeaderError, match="over the limit"):
        read_header(reader, reader.size)
    assert reader.asked == [FIRST]


IMPOSTORS = {
    b"<!DOCTYPE html><html><title>Sign in</title>": "html",
    b"\n\n  <HTML><body>": "html",
    b"\xef\xbb\xbf<?xml version='1.0'?><Error><Code>AccessDenied</Code>": "html",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7105348188\n": "lfs-pointer",
    b'{"error":"Access to model is restricted"}': "json",
    b"PK\x03\x04\x00\x00\x08\x08archive/data.pkl": "pickle",
    b"\x80\x02}q\x00(X\x05\x00\x00\x00state": "pickle",
    bytes(4096): "stub",
    b"": "stub",
    b"GGUF": "stub",
    b"\x02": "stub",
}


@pytest.mark.parametrize("data", IMPOSTORS)
def test_impostors_are_named(data: bytes) -> None:
    assert refused(data).why == IMPOSTORS[data]


@pytest.mark.parametrize("count", [0x7B22, 0x227B, 0x0280, 0x5B, 0x3C20])
def test_a_sound_length_that_looks_like_text_is_still_a_length(count: int) -> None:
    data = raw(b"{}".ljust(count))
    assert read_header(Reader(data), len(data)).length == len(data)


def test_the_size_law() -> None:
    head, size = head_of({"a": [1 << 20]})
    assert read_header(Reader(head, size), size).end == size
    assert refused(head, size - 1).why == "truncated"
    assert refused(head, size + 1).why == "oversized"
    assert refused(head, len(head)).why == "stub"
    error = refused(head[:50], 50)
    assert (error.why, "header alone" in error.message) == ("truncated", True)


def test_the_incident() -> None:
    head, size = head_of({"model.diffusion_model.x": [3_500_000_000]})
    error = refused(head, 710_000)
    assert error.why == "stub"
    assert f"710,000 bytes are here of {size:,}" in error.message


@pytest.mark.parametrize("given_bytes", [0, 5, 12])
def test_a_reader_that_stops_early(given_bytes: int) -> None:
    for head, size in (head_of({"a": [4]}), (gguf("flux", {}), 99)):
        with pytest.raises(HeaderError) as caught:
            read_header(lambda offset, length, head=head: head[offset : min(given_bytes, offset + length)], size)  # type: ignore[misc]
        assert caught.value.why == "truncated"


def test_a_reader_that_gives_more_than_was_asked() -> None:
    data = raw(ONE, 4)
    assert read_header(lambda *_: data + b"more", len(data)).end == len(data)


# ── GGUF ──


def array(key: str, kind: int, count: int, body: bytes) -> bytes:
    return text(key) + struct.pack("<IIQ", 9, kind, count) + body


def test_gguf() -> None:
    words = array("tokenizer.ggml.tokens", 8, 3, text("a") + text("") + text("ccc"))
    pairs = [words, array("scores", 6, 3, bytes(12)), text("n") + struct.pack("<IQ", 10, 7)]
    shapes = {"enc.blk.0.attn_q.weight": [4096, 64], "b": [3], "c": [2]}
    data, size = gguf_file(gguf("t5encoder", shapes, *pairs), shapes)
    header = read_header(Reader(data, size), size)
    assert header.tensors == {name: Tensor("F32", tuple(shape)) for name, shape in shapes.items()}
    assert header.metadata["general.architecture"] == "t5encoder"
    assert header.metadata["n"] == "7"
    assert (header.format, header.length, header.end) == ("gguf", len(data), size - 24)
    assert read_header(Reader(data, size - 24), size - 24).end == size - 24  # the last padding may be missing
    assert refused(data, size - 25).why == "truncated"
    assert refused(data, size + 1).why == "oversized"


def test_gguf_without_tensors() -> None:
    data = gguf("t5encoder", {})
    assert read_header(Reader(data), len(data)).end == len(data)
    assert refused(data, len(data) + 4096).why == "oversized"


def test_gguf_with_an_alignment_of_its_own() -> None:
    shapes = {"a": [3], "b": [5]}
    stated = text("general.alignment") + struct.pack("<II", 4, 128)
    data, size = gguf_file(gguf("x", shapes, stated, alignment=128), shapes, 128)
    assert read_header(Reader(data, size), size).end == size - 108


def placed(*tensors: tuple[int, int, int]) -> bytes:
    """Give a GGUF head with tensors of one dimension: element type, length, offset."""
    out = gguf("x", {})[:8] + struct.pack("<Q", len(tensors)) + gguf("x", {})[16:]
    for n, (kind, length, offset) in enumerate(tensors):
        out += text(f"t{n}") + struct.pack("<IQIQ", 1, length, kind, offset)
    return out


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (((0, 4, 0), (0, 4, 0)), "at byte 0, where 32 is due"),  # the same place
        (((0, 16, 0), (0, 4, 32)), "at byte 32, where 64 is due"),  # an overlap
        (((0, 4, 0), (0, 4, 64)), "at byte 64, where 32 is due"),  # a gap
        (((0, 4, 32),), "at byte 32, where 0 is due"),
        (((0, 4, 0), (0, 4, 16)), "at byte 16, where 32 is due"),  # not aligned
        (((8, 40, 0),), "rows of 40, which blocks of 32 do not fill"),
        (((99, 4, 0), (99, 4, 16)), "at byte 16, where 0 is due"),
    ],
)
def test_gguf_data_in_the_wrong_place(tensors: tuple[tuple[int, int, int], ...], words: str) -> None:
    error = refused(placed(*tensors), 10_000)
    assert error.why == "malformed"
    assert words in error.message


def test_gguf_with_a_number_of_its_own() -> None:
    scalar = placed((8, 1, 0)).replace(struct.pack("<IQI", 1, 1, 8), struct.pack("<II", 0, 8))
    assert "rows of 1, which blocks of 32 do not fill" in refused(scalar, 10_000).message
    plain = placed((0, 1, 0)).replace(struct.pack("<IQI", 1, 1, 0), struct.pack("<II", 0, 0))
    size = len(plain) + -len(plain) % 32 + 4
    assert read_header(Reader(plain, size), size).tensors == {"t0": Tensor("F32", ())}


def test_gguf_out_of_range() -> None:
    assert refused(placed((0, 1 << 40, 0)), 10_000).why == "stub"


def test_gguf_with_element_types_that_are_not_known() -> None:
    data = placed((0, 4, 0), (99, 7, 32), (0, 4, 4096), (98, 7, 4128))
    for size in (10_000, 1 << 30):
        header = read_header(Reader(data, size), size)
        assert header.tensors["t1"] == Tensor("ggml-99", (7,))
    assert header.end == len(data) + -len(data) % 32 + 4128
    assert refused(data, 4_000).why == "truncated"


def test_gguf_data_may_stand_in_another_order() -> None:
    data = placed((0, 4, 32), (0, 4, 0))
    assert read_header(Reader(data, 512), len(data) + -len(data) % 32 + 48).tensors.keys() == {"t0", "t1"}


@pytest.mark.parametrize("name", ["flux", "t5encoder"])
def test_gguf_as_its_own_library_writes_it(name: str) -> None:
    data = gzip.decompress((DATA / f"{name}.gguf.gz").read_bytes())
    reader = Reader(data)
    header = read_header(reader, len(data))
    assert len(reader.asked) <= 2
    assert 0 <= len(data) - header.end < 64
    assert header.metadata["general.architecture"] == name
    assert refused(data, header.end - 1).why == "truncated"


def test_gguf_gives_the_shape_before_reshaping() -> None:
    name = "input_blocks.0.0.weight"
    shape = array(f"comfy.gguf.orig_shape.{name}", 5, 4, struct.pack("<4i", 320, 4, 3, 3))
    shapes = {name: [45, 256]}
    data, size = gguf_file(gguf("sdxl", shapes, shape), shapes)
    assert read_header(Reader(data, size), size).tensors[name].shape == (320, 4, 3, 3)


def test_a_long_gguf_header_is_read_in_doubling_steps() -> None:
    words = b"".join(text(f"word {n}") for n in range(150_000))
    data = gguf("llama", {}, array("tokens", 8, 150_000, words))
    reader = Reader(data)
    assert read_header(reader, reader.size).length == len(data)
    assert reader.asked == [FIRST, FIRST, 2 * FIRST, len(data) - 4 * FIRST]


GGUF_START = b"GGUF" + struct.pack("<I", 3)
HOSTILE_GGUF = [
    b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
    b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    GGUF_START + struct.pack("<QQ", 1 << 40, 0),
    GGUF_START + struct.pack("<QQ", 0, 1 << 40),
    GGUF_START + struct.pack("<QQQ", 0, 1, 1 << 62),
    GGUF_START + struct.pack("<QQ", 0, 1) + struct.pack("<Q", 1) + b"\xff",
    gguf("x", {}, text("key") + struct.pack("<I", 99)),
    gguf("x", {}, text("key") + struct.pack("<IQ", 8, 1 << 40)),
    gguf("x", {}, array("key", 4, 1 << 62, b"")),
    gguf("x", {}, array("key", 8, 1 << 62, b"")),
    gguf("x", {}, array("key", 8, 1, struct.pack("<Q", 1 << 40))),
    gguf("x", {}, array("key", 77, 1, b"")),
    gguf("x", {}, array("key", 9, 1, struct.pack("<IQ", 9, 1) * 20)),
    gguf("x", {}, text("general.architecture") + struct.pack("<IQ", 10, 7)),
    gguf("x", {"a": [1]}, text("general.alignment") + struct.pack("<II", 4, 0)),
    gguf("x", {"a": [1]}, text("general.alignment") + struct.pack("<I", 8) + text("9" * 9_000)),
    gguf("x", {"a": [1] * 9}),
    gguf("x", {"a": [1 << 40, 1 << 40]}),
    gguf("x", {}, array("key", 0, 16 << 20, b"")),
    gguf("x", {}, array("comfy.gguf.orig_shape.a", 5, 9, bytes(36))),
    gguf("x", {}, array("comfy.gguf.orig_shape.a", 5, 1, struct.pack("<i", -1))),
    gguf("x", {}, array("comfy.gguf.orig_shape.a", 8, 1, text(""))),
]


@pytest.mark.parametrize("data", HOSTILE_GGUF)
def test_hostile_gguf(data: bytes) -> None:
    reader = Reader(data, 1 << 40)
    with pytest.raises(HeaderError, match="not a sound GGUF"):
        read_header(reader, reader.size)
    assert sum(reader.asked) <= gguf_format.LIMIT
    assert refused(data, len(data)).why in {"malformed", "truncated", "stub"}


def test_what_is_nested_too_deeply_to_be_shown_is_said_so() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert short(deep) == "something nested too deeply"
    assert short("x" * 99) == f"'{'x' * 56}..."
