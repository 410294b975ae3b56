"""Parse the GGUF header: typed keys and values, then the tensors' names, shapes and offsets.

Format: github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3. Tensors' places begin at 0 and follow each other, each
at the next multiple of the alignment: ggml's own reader (gguf.cpp) is as strict. Arrays are stepped over, not kept; the
one exception is ComfyUI-GGUF's `comfy.gguf.orig_shape.NAME`, the shape that a weight had before it was reshaped to fit
its blocks.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, NamedTuple

from gesso.models.identify.tensors import Header, HeaderError, Tensor, cut_off, short

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gesso.models.identify.tensors import Read

# Bytes of header that are read at most: T5's, of 32,000 words, has 1 MB; the largest that is in use here, a language
# model's of 260,000 words, 15 MB.
LIMIT = 16 << 20
_TENSORS, _KEYS, _NAME, _TEXT, _DEEP, _RANK = 65_536, 65_536, 65_535, 1 << 20, 4, 8
_KEPT = 4_096  # characters of a text that is kept
_MAX, _MOST_ALIGNMENT = 1 << 63, 1 << 20
_VERSIONS = {2, 3}
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_WIDTHS = {kind: struct.calcsize(f"<{code}") for kind, code in _SCALARS.items()}
_ORIGINAL = "comfy.gguf.orig_shape."

# ggml type -> its name, elements a block, bytes a block (ggml.c `type_traits`). What is not here is not measured.
_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("GGML_I8", 1, 1),
    25: ("GGML_I16", 1, 2), 26: ("GGML_I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip


class _Place(NamedTuple):
    start: int
    size: int | None  # bytes, None where the type is not known
    name: str


def parse(first: bytes, read: Read, size: int) -> Header:
    """Parse the header of a file of `size` bytes that begins with `first`; reads on as far as the header goes."""
    cursor = _Cursor(first, read, size)
    cursor.skip(4)
    version = cursor.number("I")
    if version not in _VERSIONS:
        raise _bad(f"version {version} is not 2 or 3")
    tensor_count, key_count = cursor.number("Q"), cursor.number("Q")
    if tensor_count > _TENSORS or key_count > _KEYS:
        raise _bad(f"it would have {tensor_count:,} tensors and {key_count:,} keys")
    metadata, shapes = _metadata(cursor, key_count)
    tensors: dict[str, Tensor] = {}
    places: list[_Place] = []
    for _ in range(tensor_count):
        place, tensor = _tensor(cursor)
        if place.name in tensors:
            raise _bad(f"{short(place.name)} is twice")
        tensors[place.name] = Tensor(tensor.dtype, shapes.get(place.name, tensor.shape))
        places.append(place)
    alignment = _alignment(metadata)
    end, exact = _end(places, alignment)
    if places:
        end += _aligned(cursor.at, alignment)
    else:
        end = cursor.at
    if size < end:
        raise cut_off(size, end)
    if exact and size > _aligned(end, alignment):
        raise HeaderError("oversized", f"{size - end:,} bytes too many: its header accounts for {end:,} of {size:,}")
    return Header("gguf", tensors, metadata, cursor.at, end)


def _metadata(cursor: _Cursor, count: int) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Return keys and short values as text, and the tensors' original shapes."""
    metadata: dict[str, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for _ in range(count):
        key = cursor.text(_NAME)
        if key in metadata:
            raise _bad(f"it has the key {short(key)} twice")
        kind = cursor.number("I")
        if kind == _ARRAY and key.startswith(_ORIGINAL):
            shapes[key.removeprefix(_ORIGINAL)] = cursor.shape()
            metadata[key] = ""
        else:
            metadata[key] = cursor.value(kind, key)
    return metadata, shapes


def _tensor(cursor: _Cursor) -> tuple[_Place, Tensor]:
    name, rank = cursor.text(_NAME), cursor.number("I")
    if rank > _RANK:
        raise _bad(f"the tensor {short(name)} has {rank} dimensions")
    inner_first = [cursor.number("Q") for _ in range(rank)]
    kind, offset = cursor.number("I"), cursor.number("Q")
    elements = math.prod(inner_first)
    if elements >= _MAX or offset >= _MAX:
        raise _bad(f"the tensor {short(name)} has the shape {short(inner_first[::-1])}, at byte {offset:,}")
    dtype, block, width = _TYPES.get(kind, (f"ggml-{kind}", 0, 0))
    row = inner_first[0] if inner_first else 1
    if block and row % block:
        raise _bad(f"the tensor {short(name)} has rows of {row:,}, which blocks of {block} do not fill")
    place = _Place(offset, elements // block * width if block else None, name)
    return place, Tensor(dtype, tuple(inner_first[::-1]))


def _end(places: Iterable[_Place], alignment: int) -> tuple[int, bool]:
    """Return where the last tensor's data end, from where the first one's begin, and whether that is exact."""
    at, exact = 0, True
    for place in sorted(places, key=lambda place: (place.start, place.size or 0)):
        due = _aligned(at, alignment)
        if place.start % alignment or place.start < due or (exact and place.start > due):
            raise _bad(f"the data of {short(place.name)} are at byte {place.start:,}, where {due:,} is due")
        exact = place.size is not None
        at = place.start + (place.size or 0)
    return at, exact


def _aligned(at: int, alignment: int) -> int:
    return at + -at % alignment


def _alignment(metadata: dict[str, str]) -> int:
    stated = metadata.get("general.alignment", "32")
    if len(stated) > len(str(_MOST_ALIGNMENT)) or not (stated.isdecimal() and 0 < int(stated) <= _MOST_ALIGNMENT):
        raise _bad(f"general.alignment is {short(stated)}")
    return int(stated)


def _bad(message: str) -> HeaderError:
    return HeaderError("malformed", f"not a sound GGUF file: {message}")


class _Cursor:
    """Reads the header sequentially, and doubles its buffer when it reaches the end."""

    def __init__(self, first: bytes, read: Read, size: int) -> None:
        self.data, self.read, self.size, self.at = bytearray(first), read, size, 0

    def skip(self, count: int) -> int:
        """Skip bytes and return their offset."""
        at, end = self.at, self.at + count
        if end > LIMIT:
            raise _bad(f"its header is longer than {LIMIT:,} bytes")
        if end > self.size:
            raise HeaderError("truncated", f"truncated: {self.size:,} bytes are here, its header alone has more")
        while len(self.data) < end:
            have = len(self.data)
            want = min(max(have, end - have), self.size - have, LIMIT - have)
            more = self.read(have, want)[:want]
            if not more:
                raise HeaderError("truncated", f"truncated: reading stopped after {have:,} bytes")
            self.data += more
        self.at = end
        return at

    def number(self, code: str) -> int:
        at = self.skip(struct.calcsize(f"<{code}"))
        number: int = struct.unpack_from(f"<{code}", self.data, at)[0]
        return number

    def text(self, limit: int = _TEXT) -> str:
        at = self.skip(self.length(limit))
        try:
            return self.data[at : self.at].decode("utf-8")
        except UnicodeDecodeError:
            raise _bad("it has a text that is no UTF-8") from None

    def length(self, limit: int = _TEXT) -> int:
        count = self.number("Q")
        if count > limit:
            raise _bad(f"it has a text of {count:,} bytes")
        return count

    def shape(self) -> tuple[int, ...]:
        """Return an array of whole numbers, as ComfyUI-GGUF writes them."""
        kind, count = self.number("I"), self.number("Q")
        if kind not in {4, 5} or count > _RANK:
            raise _bad(f"it has an original shape of {count:,} values of type {kind}")
        found = tuple(self.number(_SCALARS[kind]) for _ in range(count))
        if any(length < 0 for length in found):
            raise _bad(f"it has the original shape {short(found)}")
        return found

    def value(self, kind: int, key: str) -> str:
        """Return a value as text; for arrays only the length, for long texts nothing."""
        if kind == _STRING:
            text = self.text()
            return text if len(text) <= _KEPT else ""
        if kind in _SCALARS:
            return str(self.number(_SCALARS[kind]))
        if kind != _ARRAY:
            raise _bad(f"the value of {short(key)} has the unknown type {kind}")
        inner, count = self.number("I"), self.number("Q")
        self.array(inner, count)
        return f"[{count} values]"

    def array(self, kind: int, count: int, deep: int = 0) -> None:
        if kind in _SCALARS:
            if count > LIMIT // _WIDTHS[kind]:
                raise _bad(f"it has an array of {count:,} values")
            self.skip(count * _WIDTHS[kind])
            return
        if kind not in {_STRING, _ARRAY} or count > LIMIT // 8 or deep > _DEEP:
            raise _bad(f"it has an array of {count:,} values of type {kind}, {deep} deep")
        for _ in range(count):
            if kind == _STRING:
                self.skip(self.length())
            else:
                self.array(self.number("I"), self.number("Q"), deep + 1)
