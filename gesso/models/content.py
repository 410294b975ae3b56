"""Judge whether bytes can be the expected model before all of them arrived: by size, first bytes, header and family.

Pure: the bytes come through a reader, so that a file on disk and one still at its host are judged by the same rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso.manifest.schema import PICKLE_SUFFIXES
from gesso.models.faults import ContentError, wrong_hash
from gesso.models.identify.family import identify, mismatch
from gesso.models.identify.header import FIRST, HeaderError, impostor, read_header

if TYPE_CHECKING:
    from gesso.manifest.schema import Model
    from gesso.models.identify.tensors import Read

_AGAIN = "fetch it again"
_STUB = 0.01  # share of the expected size: a smaller file is a stub, a larger one is truncated


def judge(model: Model, read: Read, size: int | None) -> ContentError | None:
    """Return what is wrong with the bytes of `model`, or None if the header shows nothing wrong.

    `size` is what the whole file has (None: nobody says); `read(offset, length)` gives its bytes. What the bytes
    evidently are (a web page, an LFS pointer) comes before their number: it says more. A size that no host confirmed
    refuses nothing by itself: the hash decides.
    """
    pickle = may_be_pickle(model)
    first = read(0, min(FIRST, size if size is not None else FIRST))
    found = impostor(first)
    if found and not (pickle and found.why == "pickle"):
        return ContentError(found.why, found.message, found.next_step)
    if pickle:  # nothing in a pickle is trusted before its hash is right
        return _size(model, size) if model.size_confirmed else None
    wrong, other = _size(model, size), _header(model, read, first, size)
    if wrong is None:
        return other
    if other is None:
        return wrong if model.size_confirmed else None
    # Another family explains more than a different size, and a header explains more than a hint; but a stub is
    # reported as a stub.
    if other.why == "wrong-family" or not (model.size_confirmed or wrong.why == "stub"):
        return ContentError(other.why, f"{other.message}; {wrong.message}", other.next_step)
    return wrong if model.size_confirmed else ContentError(wrong.why, f"{wrong.message}; {other.message}", _AGAIN)


def hash_error(model: Model, digest: str, size: int) -> ContentError:
    """Return the error for `size` bytes with the wrong hash; a stub, say, if the size differs as well."""
    other, wrong = wrong_hash(digest, model.sha256), _size(model, size)
    return other if wrong is None else ContentError(wrong.why, f"{wrong.message}; {other.message}", other.next_step)


def remark(model: Model, size: int | None) -> str:
    """Return the remark that the lock has a wrong size for a file whose hash is right; empty if the size is right."""
    if size is None or model.size in (None, size):
        return ""
    said = f"{model.size:,} bytes said by the lock{_doubt(model)}, the file has {size:,}"
    return f"{said}: its SHA-256 is right; `invoke lock` corrects it"


def _header(model: Model, read: Read, first: bytes, size: int | None) -> ContentError | None:
    expected = size if size is not None or not model.size_confirmed else model.size

    def cached(offset: int, length: int) -> bytes:
        return first if (offset, length) == (0, len(first)) else read(offset, length)

    try:
        header = read_header(cached, expected if expected is not None else len(first))
    except HeaderError as error:
        if expected is None and error.why in {"truncated", "stub"}:
            return None  # the size is unknown: the hash decides
        return ContentError(error.why, error.message, error.next_step)
    if contradiction := mismatch(identify(header), model.kind, model.family):
        return ContentError("wrong-family", contradiction, "correct the manifest, or its sources: do not use this file")
    return None


def may_be_pickle(model: Model) -> bool:
    """Return whether the manifest accepts a format that can run code for this model, with a reason."""
    return model.allow_pickle is not None and model.name.lower().endswith(PICKLE_SUFFIXES)


def _size(model: Model, size: int | None) -> ContentError | None:
    if size is None or model.size is None or size == model.size:
        return None
    said = f"{size:,} bytes, the lock says {model.size:,}{_doubt(model)}"
    if size > model.size:
        return ContentError("oversized", said, _AGAIN)
    share = 100 * size / model.size
    few = f"{share:.2g} %" if share < 99 else f"{model.size - size:,} too few"
    return ContentError("stub" if size < model.size * _STUB else "truncated", f"{said} ({few})", _AGAIN)


def _doubt(model: Model) -> str:
    return "" if model.size_confirmed else " (unconfirmed)"
