"""A byte stream in chunks, as a file that tarfile reads once, sequentially."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class TarStream(io.RawIOBase):
    """Chunks of bytes as a file; buffers the rest of one chunk only."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return `size` bytes, fewer at the end only; everything where `size` is negative."""
        chunks, length = [self._rest], len(self._rest)
        while size < 0 or length < size:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            chunks.append(chunk)
            length += len(chunk)
        data = b"".join(chunks)
        end = len(data) if size < 0 else size
        self._rest = data[end:]
        return data[:end]
