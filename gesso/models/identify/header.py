"""Read a model file's header by its first bytes: safetensors, GGUF, or not a model at all.

Pure: bytes come through a reader, so that local files and remote ones (HTTP ranges) are judged by the same code.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gesso.models.identify import gguf, safetensors
from gesso.models.identify.tensors import Header, HeaderError, Tensor, short

if TYPE_CHECKING:
    from gesso.models.identify.tensors import Read

__all__ = ["FIRST", "Header", "HeaderError", "Tensor", "impostor", "read_header"]

FIRST = 512 << 10  # bytes of the first read; an SDXL checkpoint, with 2,513 tensors, has a header of 364,400

_MARKUP = re.compile(rb"\s*<(?:!doctype|html|head|body|\?xml|!--|script|error)", re.IGNORECASE)
_JSON = re.compile(rb"\s*(?:\{\s*[\"}]|\[)")
_LFS = b"version https://git-lfs"
# What torch.save writes: a zip archive, or a bare pickle of protocol 2 to 5.
_PICKLES = (
    b"PK\x03\x04",
    b"\x80\x02",
    b"\x80\x03",
    b"\x80\x04",
    b"\x80\x05",
)


def read_header(read: Read, size: int) -> Header:
    """Read and check the header of a file of `size` bytes; `read(offset, length)` returns at most `length` bytes.

    At most two reads for safetensors: 512 KiB, then what is missing of a header of 16 MiB at most. GGUF does not say
    how long its header is: each read doubles what is there, up to 16 MiB. Raises HeaderError, and nothing else of its
    own, for whatever is not a whole model file.
    """
    if size <= 0:
        raise HeaderError("stub", "the file is empty")
    want = min(FIRST, size)
    first = read(0, want)[:want]
    if found := impostor(first):
        raise found
    if len(first) < min(8, size):
        raise HeaderError("truncated", f"truncated: reading stopped after {len(first)} of {size:,} bytes")
    if size < 8:
        raise HeaderError("stub", f"the file has {size} bytes: no model is that small")
    if first.startswith(b"GGUF"):
        return gguf.parse(first, read, size)
    return safetensors.parse(first, read, size)


def impostor(first: bytes) -> HeaderError | None:
    """Recognise what servers and tools save instead of a model. The first 8 bytes would be an absurd length."""
    start = first[:512].removeprefix(b"\xef\xbb\xbf")
    if start.startswith(_LFS):
        step = "fetch the file itself: through /resolve/, not /raw/, or with `git lfs pull`"
        return HeaderError("lfs-pointer", "a git-LFS pointer, not the file that it points to", step)
    if _MARKUP.match(start):
        step = "open the address in a browser: it asks for a login or a licence, or the file has moved"
        return HeaderError("html", f"a web page, not a model: it begins {short(_text(start))}", step)
    if _JSON.match(start) and not 2 <= int.from_bytes(first[:8], "little") <= safetensors.LIMIT:
        step = "read what it says: a missing token, a licence to accept, or a file that has moved"
        return HeaderError("json", f"a server's message, not a model: it begins {short(_text(start))}", step)
    if first.startswith(_PICKLES) and not 2 <= int.from_bytes(first[:8], "little") <= safetensors.LIMIT:
        return HeaderError("pickle", "a pickle, which can run code when it is loaded", "use its .safetensors instead")
    if len(first) >= 8 and not any(first):
        return HeaderError("stub", f"{len(first):,} zeros and no header: space was set aside and never written")
    return None


def _text(start: bytes) -> str:
    return " ".join(start[:200].decode("utf-8", "replace").split())
