"""Headers that nobody would make, by thousands: refused or read, and never a surprise."""

from __future__ import annotations

import gzip
import random
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from gesso.models.identify import gguf as gguf_format
from gesso.models.identify.family import identify, mismatch
from gesso.models.identify.header import HeaderError, read_header
from tests.unit.models.conftest import Reader, gguf, raw, text
from tests.unit.models.identify.test_header import DATA, ONE, array, entry

SOUND = [
    raw({**ONE, "b": entry("F16", [2, 3], [4, 16])["a"], "__metadata__": {"k": "v"}}, 16),
    gguf("flux", {"img_in.weight": [2, 4]}, array("k", 8, 2, text("a") + text("b"))) + bytes(96),
    gzip.decompress((DATA / "flux.gguf.gz").read_bytes()),
    raw({"__metadata__": {"k": "v" * 5_000}, "é": entry()["a"]}, 4),
]


def never_surprises(data: bytes, size: int) -> None:
    reader = Reader(data, size)
    try:
        header = read_header(reader, size)
    except HeaderError as error:
        str(error).encode("ascii")
    else:
        assert header.length <= header.end <= size
        identity = identify(header)
        assert identity.evidence
        for kind in ("checkpoint", "lora", "vae"):
            assert (mismatch(identity, kind, "sdxl") or "x").isascii()
    assert sum(reader.asked) <= gguf_format.LIMIT
    assert data.startswith(b"GGUF") or len(reader.asked) <= 2


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200), st.integers(0, 1 << 40), st.sampled_from([b"", b"GGUF\3\0\0\0", b"\x40\0\0\0\0\0\0\0{"])
)
def test_random_bytes(data: bytes, size: int, start: bytes) -> None:
    never_surprises(start + data, size)
    never_surprises(start + data, len(start + data))


PUT = st.binary(max_size=8) | st.sampled_from(
    [b"\xff" * 8, bytes(8), b"\xff" * 7 + b"\x7f", struct.pack("<Q", 1 << 20)]
)


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(SOUND),
    st.lists(st.tuples(st.integers(0, 450), st.integers(0, 8), PUT), min_size=1, max_size=4),
    st.integers(-20, 20),
)
def test_mutations(sound: bytes, changes: list[tuple[int, int, bytes]], more: int) -> None:
    data = bytearray(sound)
    for at, out, put in changes:
        data[at : at + out] = put
    never_surprises(bytes(data), max(0, len(data) + more))


def test_many_mutations() -> None:
    rng = random.Random(20)
    for _ in range(6_000):
        data = bytearray(rng.choice(SOUND))
        for _ in range(rng.randint(1, 5)):
            at, out = rng.randrange(len(data)), rng.randint(0, 8)
            data[at : at + out] = rng.choice([rng.randbytes(rng.randint(0, 8)), bytes(8), b"\xff" * 8])
        never_surprises(bytes(data), max(0, len(data) + rng.choice([0, 0, -3, 5, 1 << 33])))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["U8", "F4"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
ENTRIES = VALUES | st.fixed_dictionaries({"dtype": VALUES, "shape": VALUES, "data_offsets": VALUES})


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), ENTRIES), st.integers(0, 40))
def test_any_json(header: dict[str, object], data: int) -> None:
    made = raw(header, data)
    never_surprises(made, len(made))
