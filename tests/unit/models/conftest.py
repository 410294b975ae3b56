"""Small model files by hand, and a reader that remembers what it was asked for."""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING

import pytest

from gesso.models.identify.safetensors import BITS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Reader:
    """Gives the bytes of a file that is only said to have `size` bytes; beyond `data` it has zeros."""

    def __init__(self, data: bytes, size: int | None = None) -> None:
        self.data, self.size = data, len(data) if size is None else size
        self.asked: list[int] = []

    def __call__(self, offset: int, length: int) -> bytes:
        self.asked.append(length)
        length = max(0, min(length, self.size - offset))
        return self.data[offset : offset + length].ljust(length, b"\0")


def raw(header: object, data: int = 0) -> bytes:
    """Give a safetensors file with this header, JSON or not, and so many bytes of data."""
    blob = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(blob)) + blob + bytes(data)


def head_of(shapes: Mapping[str, list[int]], dtype: str = "F16", **metadata: str) -> tuple[bytes, int]:
    """Give the head of a safetensors file with these tensors, and the size of the whole file."""
    header: dict[str, object] = {"__metadata__": metadata}
    at = 0
    for name, shape in shapes.items():
        end = at + math.prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    head = raw(header)
    return head, len(head) + at


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(
    architecture: str, shapes: Mapping[str, list[int]], *pairs: bytes, kind: int = 0, alignment: int = 32
) -> bytes:
    """Give the head of a GGUF file with further key-value pairs, as bytes; tensors of F32 or as large."""
    keys = [text("general.architecture") + struct.pack("<I", 8) + text(architecture), *pairs]
    out = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(keys)) + b"".join(keys)
    at = 0
    for name, shape in shapes.items():
        out += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, at)
        at += math.prod(shape) * 4
        at += -at % alignment
    return out


def gguf_file(head: bytes, shapes: Mapping[str, list[int]], alignment: int = 32) -> tuple[bytes, int]:
    """Give such a head and the size of the whole file, padded as ggml pads it."""
    size = len(head)
    for shape in shapes.values():
        size += -size % alignment + math.prod(shape) * 4
    return head, size + -size % alignment


@pytest.fixture
def reader() -> Callable[[bytes, int | None], Reader]:
    return Reader
