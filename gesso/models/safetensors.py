"""The safetensors header, believed only where every number in it adds up.

Format (github.com/huggingface/safetensors, README "Format" and tensor.rs `validate`): 8 bytes little-endian N, N bytes
of JSON that begin with `{`, then the data; spans begin at 0, touch each other, and end where the file ends.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NoReturn

from gesso.models.tensors import Header, HeaderError, Tensor, cut_off, short

if TYPE_CHECKING:
    from gesso.models.tensors import Read

# Bytes of JSON. The format allows 100 MB, but parsing costs up to 26 times as much memory; an SDXL file has 0.4 MB.
LIMIT = 4 << 20
_BRACKETS = 1_000_000  # as many { and [ as are parsed; a tensor needs three
_RANK = 32  # dimensions; PyTorch stops at 64, models at 5
_MAX = 1 << 63
_OFFSETS, _KEYS = 2, {"dtype", "shape", "data_offsets"}

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
    entries = _json(blob)
    metadata = _metadata(entries.pop("__metadata__", {}))
    tensors: dict[str, Tensor] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in entries.items():
        tensors[name], start, end = _tensor(name, entry)
        spans.append((start, end, name))
    law = 8 + count + _contiguous(spans)
    if size < law:
        raise cut_off(size, law)
    if size > law:
        raise HeaderError("oversized", f"{size - law:,} bytes too many: its header accounts for {law:,} of {size:,}")
    return Header("safetensors", tensors, metadata, 8 + count, law)


def _json(blob: bytes) -> dict[str, Any]:
    if not blob.startswith(b"{"):
        raise _bad(f"its header begins with {short(blob[:16])}, not with {{")
    if blob.count(b"{") + blob.count(b"[") > _BRACKETS:
        raise _bad(f"its header has more than {_BRACKETS:,} brackets")
    try:
        parsed = json.loads(
            blob.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_number,
            parse_float=_no_number,
        )
    except (ValueError, RecursionError) as error:  # a JSON, UTF-8 or digits-of-int error is a ValueError
        raise _bad(f"its header is no JSON: {short(str(error), 100)}") from None
    if not isinstance(parsed, dict):
        raise _bad("its header is no JSON object")
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _bad(f"its header has {short(twice)} twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise _bad(f"its header has {short(text)} where only whole numbers belong")


def _metadata(found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise _bad("its __metadata__ is no table of texts")
    return found


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
    return Tensor(dtype, tuple(shape)), start, end


def _whole_numbers(found: Any) -> bool:
    return isinstance(found, list) and all(type(n) is int and 0 <= n < _MAX for n in found)


def _contiguous(spans: list[tuple[int, int, str]]) -> int:
    """Give where the last span ends."""
    at = 0
    for start, end, name in sorted(spans):
        if start != at:
            fault = "overlaps another tensor" if start < at else "follows a gap"
            raise _bad(f"the data of {short(name)} {fault}, at byte {start:,}")
        at = end
    return at


def _bad(message: str) -> HeaderError:
    return HeaderError("malformed", f"not a sound safetensors file: {message}")
