"""Parse the safetensors header; accept it only if all its numbers are consistent.

Format (github.com/huggingface/safetensors, README "Format" and tensor.rs `validate`): 8 bytes little-endian N, N bytes
of JSON that begin with `{`, then the data; spans begin at 0, touch each other, and end where the file ends.

The JSON is taken entry by entry and never as a whole: a parser of all JSON costs up to 26 times the text in memory.
"""

from __future__ import annotations

import codecs
import json
import math
import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from gesso.models.identify.tensors import Header, HeaderError, Tensor, cut_off, short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gesso.models.identify.tensors import Read

# Bytes of JSON. The format allows 100 MB. Of real files a checkpoint's header has 0.4 MB and LTX-2's, of 3,568 tensors,
# 0.5 MB; but a LoRA's metadata can hold all captions of its training, a merged model's its whole workflow: several MB.
LIMIT = 16 << 20
_TENSORS = 100_000  # tensors at most; 12,000 are the most that was seen
_METADATA, _VALUE = 10_000, 4_096  # texts in the metadata at most, and bytes of one that is kept
_NAME = 4_096  # bytes of a name at most
_CHUNK = 64 << 10
_RANK = 32  # dimensions; PyTorch stops at 64, models at 5
_MAX = 1 << 63
_OFFSETS, _KEYS = 2, {"dtype", "shape", "data_offsets"}

_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = re.compile(rb'"[^"\\\x00-\x1f]*+(?:\\["\\/bfnrtu][^"\\\x00-\x1f]*+)*+"')
_ENTRY = re.compile(rb"\{[^{}]{0,4096}\}")  # a tensor's: nothing in it is nested in braces

# Bits an element, from tensor.rs `Dtype::bitsize`; F4 and F6 must fill whole bytes together.
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


def parse(first: bytes, read: Read, size: int) -> Header:
    """Parse the header of a file of `size` bytes that begins with `first`; reads once more, only what is missing."""
    count = int.from_bytes(first[:8], "little")
    if count > LIMIT:
        raise _bad(f"its header would have {count:,} bytes, over the limit of {LIMIT:,}")
    if count < len("{}"):
        raise _bad(f"its header would have {count} bytes")
    if 8 + count > size:
        raise HeaderError("truncated", f"truncated: {size:,} bytes are here, its header alone has {8 + count:,}")
    blob = first[8 : 8 + count]
    if missing := count - len(blob):
        blob += read(8 + len(blob), missing)[:missing]
    if len(blob) < count:
        raise HeaderError("truncated", f"truncated: reading stopped after {8 + len(blob):,} of {size:,} bytes")
    tensors, metadata, spans = _Scan(blob).header()
    law = 8 + count + _contiguous(spans)
    if size < law:
        raise cut_off(size, law)
    if size > law:
        raise HeaderError("oversized", f"{size - law:,} bytes too many: its header accounts for {law:,} of {size:,}")
    return Header("safetensors", tensors, metadata, 8 + count, law)


class _Scan:
    """Reads the JSON sequentially: an object with an object for each tensor, and one of texts."""

    def __init__(self, blob: bytes) -> None:
        if not blob.startswith(b"{"):
            raise _bad(f"its header begins with {short(blob[:16])}, not with {{")
        self.blob, self.at = blob, 0

    def header(self) -> tuple[dict[str, Tensor], dict[str, str], list[tuple[int, int, str]]]:
        tensors: dict[str, Tensor] = {}
        metadata: dict[str, str] = {}
        spans: list[tuple[int, int, str]] = []
        for name in self.keys(_TENSORS):
            if name == "__metadata__":
                metadata = self.metadata()
                continue
            tensors[name], start, end = _tensor(name, self.entry(name))
            spans.append((start, end, name))
        if self.after_space() != len(self.blob):
            raise self.no_json()
        return tensors, metadata, spans

    def metadata(self) -> dict[str, str]:
        found: dict[str, str] = {}
        if self.take(b"null"):
            return found
        if not self.blob.startswith(b"{", self.after_space()):
            raise _bad("its __metadata__ is no table of texts")
        for key in self.keys(_METADATA):
            if not self.blob.startswith(b'"', self.after_space()):
                raise _bad("its __metadata__ is no table of texts")
            start, end = self.string()
            if end - start <= _VALUE:
                found[key] = _json(self.blob[start:end])
            else:
                self.utf8(start, end)
        return found

    def entry(self, name: str) -> Any:
        found = _ENTRY.match(self.blob, self.after_space())
        if not found:
            raise _bad(f"{short(name)} is not described by dtype, shape and data_offsets")
        self.at = found.end()
        return _json(found[0])

    def keys(self, most: int) -> Iterator[str]:
        """Yield the keys of the object that begins here; the caller reads each value before the next key."""
        seen: set[str] = set()
        self.need(b"{")
        if self.take(b"}"):
            return
        while len(seen) < most:
            start, end = self.string()
            if end - start > _NAME:
                raise _bad(f"its header has a name of {end - start:,} bytes")
            key: str = _json(self.blob[start:end])
            if key in seen:
                raise _bad(f"its header has {short(key)} twice")
            seen.add(key)
            self.need(b":")
            yield key
            if self.take(b"}"):
                return
            self.need(b",")
        raise _bad(f"its header has more than {most:,} entries")

    def string(self) -> tuple[int, int]:
        """Skip a string and return its bounds, with quotes."""
        found = _STRING.match(self.blob, self.after_space())
        if not found:
            raise self.no_json()
        self.at = found.end()
        return found.span()

    def utf8(self, start: int, end: int) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for at in range(start, end, _CHUNK):
                decoder.decode(self.blob[at : min(at + _CHUNK, end)])
        except UnicodeDecodeError:
            raise self.no_json() from None

    def after_space(self) -> int:
        found = _SPACE.match(self.blob, self.at)
        return found.end() if found else self.at

    def take(self, word: bytes) -> bool:
        at = self.after_space()
        if not self.blob.startswith(word, at):
            return False
        self.at = at + len(word)
        return True

    def need(self, word: bytes) -> None:
        if not self.take(word):
            raise self.no_json()

    def no_json(self) -> HeaderError:
        return _bad(f"its header is no JSON, at byte {8 + self.after_space():,}")


def _json(piece: bytes) -> Any:
    try:
        return json.loads(
            piece.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_number,
            parse_float=_no_number,
        )
    except (ValueError, RecursionError) as error:  # a JSON, UTF-8 or digits-of-int error is a ValueError
        raise _bad(f"its header is no JSON: {short(str(error), 100)}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _bad(f"its header has {short(twice)} twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise _bad(f"its header has {short(text)} where only whole numbers belong")


def _tensor(name: str, entry: Any) -> tuple[Tensor, int, int]:
    if not isinstance(entry, dict) or entry.keys() != _KEYS:
        raise _bad(f"{short(name)} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _bad(f"{short(name)} has the unknown dtype {short(dtype)}")
    if not _whole_numbers(shape) or len(shape) > _RANK:
        raise _bad(f"{short(name)} has the shape {short(shape)}")
    if not _whole_numbers(offsets) or len(offsets) != _OFFSETS or offsets[0] > offsets[1]:
        raise _bad(f"{short(name)} has the data_offsets {short(offsets)}")
    start, end = offsets
    bits = math.prod(shape) * BITS[dtype]
    if bits != 8 * (end - start):
        raise _bad(f"{short(name)} has {end - start:,} bytes of data, which {short(shape)} of {dtype} does not take")
    return Tensor(sys.intern(dtype), tuple(shape)), start, end


def _whole_numbers(found: Any) -> bool:
    return isinstance(found, list) and all(type(n) is int and 0 <= n < _MAX for n in found)


def _contiguous(spans: list[tuple[int, int, str]]) -> int:
    """Return where the last span ends."""
    at = 0
    for start, end, name in sorted(spans):
        if start != at:
            fault = "overlaps another tensor" if start < at else "follows a gap"
            raise _bad(f"the data of {short(name)} {fault}, at byte {start:,}")
        at = end
    return at


def _bad(message: str) -> HeaderError:
    return HeaderError("malformed", f"not a sound safetensors file: {message}")
