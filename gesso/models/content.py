"""Whether bytes can be the wanted model, judged before they are all here: by size, first bytes, header and family.

Pure: the bytes come through a reader, so that a file on disk and one still at its host are judged by the same rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso.manifest.schema import PICKLE_SUFFIXES
from gesso.models.faults import ContentError
from gesso.models.identify.family import identify, mismatch
from gesso.models.identify.header import FIRST, HeaderError, impostor, read_header

if TYPE_CHECKING:
    from gesso.manifest.schema import Model
    from gesso.models.identify.tensors import Read

_AGAIN = "fetch it again"
_STUB = 0.01  # of the wanted size: below this a file is a stub, above it one that was cut off


def judge(model: Model, read: Read, size: int | None) -> ContentError | None:
    """Give what is wrong with bytes that are offered as `model`, or None where nothing is, as far as a header tells.

    `size` is what the whole file has (None: nobody says); `read(offset, length)` gives its bytes. What the bytes
    evidently are (a web page, an LFS pointer) comes before their number: it says more.
    """
    pickle = may_be_pickle(model)
    first = read(0, min(FIRST, size if size is not None else FIRST))
    found = impostor(first)
    if found and not (pickle and found.why == "pickle"):
        return ContentError(found.why, found.message, found.next_step)
    if pickle:  # of one nothing may be believed before its hash is right
        return _size(model, size)
    wrong = _size(model, size)
    if wrong is None:
        return _header(model, read, first, size)
    # A whole file of another family says more than that its size is not the wanted one.
    other = _header(model, read, first, size)
    if other is None or other.why != "wrong-family":
        return wrong
    return ContentError(other.why, f"{other.message} ({wrong.message})", other.next_step)


def _header(model: Model, read: Read, first: bytes, size: int | None) -> ContentError | None:
    expected = size if size is not None else model.size

    def cached(offset: int, length: int) -> bytes:
        return first if (offset, length) == (0, len(first)) else read(offset, length)

    try:
        header = read_header(cached, expected if expected is not None else len(first))
    except HeaderError as error:
        if expected is None and error.why in {"truncated", "stub"}:
            return None  # nobody knows the size: the hash will tell
        return ContentError(error.why, error.message, error.next_step)
    if contradiction := mismatch(identify(header), model.kind, model.family):
        return ContentError("wrong-family", contradiction, "correct the manifest, or its sources: do not use this file")
    return None


def may_be_pickle(model: Model) -> bool:
    """Tell whether the manifest accepts a format that can run code for this model, with a reason."""
    return model.allow_pickle is not None and model.name.lower().endswith(PICKLE_SUFFIXES)


def _size(model: Model, size: int | None) -> ContentError | None:
    if size is None or model.size is None or size == model.size:
        return None
    said = f"{size:,} bytes, the lock says {model.size:,}"
    if size > model.size:
        return ContentError("oversized", said, _AGAIN)
    share = 100 * size / model.size
    few = f"{share:.2g} %" if share < 99 else f"{model.size - size:,} too few"
    return ContentError("stub" if size < model.size * _STUB else "truncated", f"{said} ({few})", _AGAIN)
