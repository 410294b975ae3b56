"""What an engine sends in pieces, as a file that tarfile reads once from its start to its end."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Chunks(io.RawIOBase):
    """Pieces of bytes as a file; nothing of it is kept but the rest of one piece."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Give `size` bytes, fewer at the end only; all of it where `size` is negative."""
        got, have = [self._rest], len(self._rest)
        while size < 0 or have < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            got.append(piece)
            have += len(piece)
        whole = b"".join(got)
        cut = len(whole) if size < 0 else size
        self._rest = whole[cut:]
        return whole[:cut]
