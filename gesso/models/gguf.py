"""The GGUF header: typed keys and values, then the tensors' names and shapes.

Format: github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3. Arrays are stepped over, not kept; the one exception
is ComfyUI-GGUF's `comfy.gguf.orig_shape.NAME`, the shape that a weight had before it was reshaped to fit its blocks.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

from gesso.models.tensors import Header, HeaderError, Tensor, cut_off, short

if TYPE_CHECKING:
    from gesso.models.tensors import Read

LIMIT = 16 << 20  # bytes of header that are read at most; a T5 tokenizer of 32,000 words takes 0.7 MB
_STEP = 1 << 20  # bytes a read
_TENSORS, _KEYS, _NAME, _TEXT, _DEEP, _RANK = 65_536, 4_096, 65_535, 1 << 20, 4, 8
_MAX = 1 << 63
_VERSIONS = {2, 3}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_ORIGINAL = "comfy.gguf.orig_shape."

# ggml type -> its name, elements a block, bytes a block (ggml.c `type_traits`); others are not counted into `end`.
_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4),
    27: ("I64", 1, 8), 28: ("F64", 1, 8), 30: ("BF16", 1, 2),
}  # fmt: skip


def parse(first: bytes, read: Read, size: int) -> Header:
    """Parse the header of a file of `size` bytes that begins with `first`; reads on as far as the header goes."""
    cursor = _Cursor(first, read, size)
    cursor.take(4)
    version = cursor.number("I")
    if version not in _VERSIONS:
        raise _bad(f"version {version} is not 2 or 3")
    tensor_count, key_count = cursor.number("Q"), cursor.number("Q")
    if tensor_count > _TENSORS or key_count > _KEYS:
        raise _bad(f"it would have {tensor_count:,} tensors and {key_count:,} keys")
    metadata: dict[str, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for _ in range(key_count):
        key = cursor.text(_NAME)
        if key in metadata:
            raise _bad(f"it has the key {short(key)} twice")
        metadata[key] = cursor.value(cursor.number("I"), shapes if key.startswith(_ORIGINAL) else None, key)
    tensors: dict[str, Tensor] = {}
    last = 0
    for _ in range(tensor_count):
        name = cursor.text(_NAME)
        rank = cursor.number("I")
        if name in tensors or rank > _RANK:
            raise _bad(f"the tensor {short(name)} has {rank} dimensions" if rank > _RANK else f"{short(name)} is twice")
        shape = tuple(cursor.number("Q") for _ in range(rank))[::-1]
        kind, offset = cursor.number("I"), cursor.number("Q")
        if math.prod(shape) >= _MAX or offset >= _MAX:
            raise _bad(f"the tensor {short(name)} has the shape {short(shape)}, at byte {offset:,}")
        dtype, block, width = _TYPES.get(kind, (f"ggml-{kind}", 0, 0))
        last = max(last, offset + (math.prod(shape) // block * width if block else 0))
        tensors[name] = Tensor(dtype, shape)
    fixed = {n: Tensor(tensors[n].dtype, s) for n, s in shapes.items() if n in tensors}
    end = cursor.at + -cursor.at % _alignment(metadata) + last if tensors else cursor.at
    if size < end:
        raise cut_off(size, end)
    return Header("gguf", tensors | fixed, metadata, cursor.at, end)


def _alignment(metadata: dict[str, str]) -> int:
    stated = metadata.get("general.alignment", "32")
    if len(stated) > len(str(_STEP)) or not (stated.isdecimal() and 0 < int(stated) <= _STEP):
        raise _bad(f"general.alignment is {short(stated)}")
    return int(stated)


def _bad(message: str) -> HeaderError:
    return HeaderError("malformed", f"not a sound GGUF file: {message}")


class _Cursor:
    """Walks through the header and reads a step further whenever it comes to the end of what it has."""

    def __init__(self, first: bytes, read: Read, size: int) -> None:
        self.data, self.read, self.size, self.at = bytearray(first), read, size, 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > LIMIT:
            raise _bad(f"its header is longer than {LIMIT:,} bytes")
        if end > self.size:
            raise HeaderError("truncated", f"truncated: {self.size:,} bytes are here, its header alone has more")
        while len(self.data) < end:
            want = min(max(_STEP, end - len(self.data)), self.size - len(self.data), LIMIT - len(self.data))
            more = self.read(len(self.data), want)[:want]
            if not more:
                raise HeaderError("truncated", f"truncated: reading stopped after {len(self.data):,} bytes")
            self.data += more
        taken = bytes(self.data[self.at : end])
        self.at = end
        return taken

    def number(self, code: str) -> int:
        number: int = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]
        return number

    def text(self, limit: int = _TEXT) -> str:
        count = self.number("Q")
        if count > limit:
            raise _bad(f"it has a text of {count:,} bytes")
        try:
            return self.take(count).decode("utf-8")
        except UnicodeDecodeError:
            raise _bad("it has a text that is no UTF-8") from None

    def value(self, kind: int, shapes: dict[str, tuple[int, ...]] | None, key: str) -> str:
        """Give a value as text; of arrays only their length, and only original shapes are kept."""
        if kind == _STRING:
            return self.text()
        if kind in _SCALARS:
            return str(struct.unpack(f"<{_SCALARS[kind]}", self.take(struct.calcsize(f"<{_SCALARS[kind]}")))[0])
        if kind != _ARRAY:
            raise _bad(f"the value of {short(key)} has the unknown type {kind}")
        inner, count = self.number("I"), self.number("Q")
        if shapes is not None and inner in {4, 5} and count <= _RANK:
            shape = tuple(self.number(_SCALARS[inner]) for _ in range(count))
            shapes[key.removeprefix(_ORIGINAL)] = shape
        else:
            self._skip(inner, count)
        return f"[{count} values]"

    def _skip(self, kind: int, count: int, deep: int = 0) -> None:
        if kind in _SCALARS:
            width = struct.calcsize(f"<{_SCALARS[kind]}")
            if count > LIMIT // width:
                raise _bad(f"it has an array of {count:,} values")
            self.take(count * width)
            return
        if kind not in {_STRING, _ARRAY} or count > LIMIT // 8 or deep > _DEEP:
            raise _bad(f"it has an array of {count:,} values of type {kind}, {deep} deep")
        for _ in range(count):
            if kind == _STRING:
                length = self.number("Q")
                if length > _TEXT:
                    raise _bad(f"it has a text of {length:,} bytes")
                self.take(length)
            else:
                self._skip(self.number("I"), self.number("Q"), deep + 1)
