"""Encode the placeholder image as PNG without an imaging library."""

from __future__ import annotations

import struct
import zlib


def placeholder(width: int = 512, height: int = 512) -> bytes:
    """Return a plain grey RGB image."""
    row = b"\x00" + b"\x80\x80\x80" * width
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(row * height, 1)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", size) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
