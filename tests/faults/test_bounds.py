"""Hostile headers: memory, time and bytes read stay small whatever a file's header claims."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from gesso.models.identify import gguf as gguf_format
from gesso.models.identify import safetensors
from gesso.models.identify.header import FIRST, HeaderError, read_header
from tests.unit.models.conftest import Reader, gguf, text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT = safetensors.LIMIT
MOST_MEMORY = 100 << 20  # bytes; fetch promises 150 MB in all
ENTRY = b'{"dtype":"U8","shape":[],"data_offsets":[%d,%d]}'


def entries(count: int, name: bytes = b"") -> bytes:
    return b"{" + b",".join(b'"%s%x":' % (name, n) + ENTRY % (n, n + 1) for n in range(count)) + b"}"


def metadata(value: bytes) -> bytes:
    return b'{"__metadata__":{"a":"' + value + b'"}}'


def arrays(kind: int, count: int, body: bytes) -> bytes:
    return gguf("x", {}, text("key") + struct.pack("<IIQ", 9, kind, count) + body)


SCALARS = struct.pack("<IB", 7, 1)
HEADERS: dict[str, Callable[[], bytes]] = {
    "as many tensors as are taken": lambda: entries(100_000, b"n" * 90),
    "long names": lambda: entries(4_000, "\U0001f600".encode() * 1_000),
    "long shapes": lambda: entries(50_000).replace(b"[]", b"[" + b"1," * 31 + b"1]"),
    "a text of line breaks": lambda: metadata(b"\\n" * (LIMIT // 2 - 20)),
    "a text of quotes without an end": lambda: metadata(b'\\"' * (LIMIT // 2))[:LIMIT],
    "a text of four bytes a letter": lambda: metadata("\U0001f600".encode() * (LIMIT // 4 - 20)),
    "many texts": lambda: (
        b'{"__metadata__":{' + b",".join(b'"%x":"%s"' % (n, b"x" * 1600) for n in range(9_999)) + b"}}"
    ),
    "deep": lambda: (b'{"a":' * LIMIT)[:LIMIT],
    "deep arrays": lambda: b'{"a":' + b"[" * (LIMIT - 5),
    "the same name": lambda: (b'{"a":' + ENTRY % (0, 1) + b"," + b'"a":1,' * LIMIT)[:LIMIT],
    "spaces": lambda: b"{" + b" " * (LIMIT - 2) + b"}",
    "no JSON": lambda: b"{" + bytes(LIMIT - 1),
}
GGUF = {
    "empty words": lambda: arrays(8, LIMIT // 8 - 1, bytes(LIMIT - 200)),
    "deep arrays": lambda: arrays(9, 1, struct.pack("<IQ", 9, 1) * (LIMIT // 12 - 99)),
    "many arrays": lambda: arrays(9, 1_000_000, struct.pack("<IQB", 7, 1, 1) * 1_000_000),
    "many keys": lambda: (
        b"GGUF" + struct.pack("<IQQ", 3, 0, 65_536) + b"".join(text(f"{n:040}") + SCALARS for n in range(65_536))
    ),
    "many tensors": lambda: (
        b"GGUF"
        + struct.pack("<IQQ", 3, 65_536, 0)
        + b"".join(text(f"{n:0150}") + struct.pack("<I8QIQ", 8, *[1] * 8, 99, 0) for n in range(65_536))
    ),
}
# Reads the file in its own process, and prints by how many kB its memory grew.
CHILD = """
import os, re, sys
from pathlib import Path
from gesso.models.identify.family import identify
from gesso.models.identify.header import HeaderError, read_header
file = os.open(sys.argv[1], os.O_RDONLY)
read = lambda offset, length: os.pread(file, length, offset)
most = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])  # of this program alone
before = most()
try:
    identify(read_header(read, int(sys.argv[2])))
except HeaderError:
    pass
print(most() - before)
"""


def growth(file: Path, size: int) -> int:
    """Return the bytes of memory that reading the file takes at most."""
    command = [sys.executable, "-c", CHILD, str(file), str(size)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout) << 10


@pytest.mark.parametrize("name", [*HEADERS, *(f"GGUF: {name}" for name in GGUF)])
def test_memory_and_time(tmp_path: Path, name: str) -> None:
    if name.startswith("GGUF: "):
        data = GGUF[name.removeprefix("GGUF: ")]()
        assert len(data) <= gguf_format.LIMIT
    else:
        blob = HEADERS[name]()
        assert 5_000_000 < len(blob) <= LIMIT
        data = struct.pack("<Q", len(blob)) + blob
    file = tmp_path / "file"
    file.write_bytes(data)
    started = time.monotonic()
    assert FIRST // 2 < growth(file, len(data) + 100_000) < MOST_MEMORY
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("count", [LIMIT + 1, 100_000_000, 6_600_000_000, 1 << 40, 1 << 63, (1 << 64) - 1])
def test_a_header_that_would_be_huge_is_refused_unread(count: int) -> None:
    reader = Reader(struct.pack("<Q", count) + b'{"a', 1 << 50)
    with pytest.raises(HeaderError, match="over the limit"):
        read_header(reader, reader.size)
    assert reader.asked == [FIRST]


def test_an_endless_gguf_stops_at_the_limit() -> None:
    reader = Reader(gguf("x", {}, text("key") + struct.pack("<IIQ", 9, 8, 1 << 20)), 1 << 40)
    reader.data += struct.pack("<Q", 1000).ljust(1008, b"x") * 40_000
    with pytest.raises(HeaderError, match="longer than"):
        read_header(reader, reader.size)
    assert sum(reader.asked) <= gguf_format.LIMIT
    assert len(reader.asked) <= 6
