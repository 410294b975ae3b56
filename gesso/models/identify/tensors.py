"""The content of a model file's header as frozen data, and the error for invalid headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gesso.errors import VerifyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Read = Callable[[int, int], bytes]  # (offset, length) in bytes, gives at most `length` bytes: a file or HTTP ranges

Why = Literal["html", "json", "lfs-pointer", "pickle", "stub", "truncated", "oversized", "malformed"]

FETCH_AGAIN = "fetch it again, from another source if it comes out the same"


class HeaderError(VerifyError):
    """The file is not a whole model file; `why` is the kind of failure, for programs."""

    def __init__(self, why: Why, message: str, next_step: str = FETCH_AGAIN) -> None:
        super().__init__(message, next_step)
        self.why: Why = why


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: its element type as the format names it, and its shape in PyTorch's order (outermost first)."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """A header that passed every check.

    `length`: bytes from the file's start to the end of the header. `end`: bytes the file must have: exactly, for
    safetensors; for GGUF to the next multiple of its alignment, and at least, where an element type is not known here.
    `metadata`: short texts only; a longer one (training logs, workflows) is checked and left out.
    """

    format: Literal["safetensors", "gguf"]
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    length: int
    end: int


def short(text: object, limit: int = 60) -> str:
    """Return text from a file in a printable form: ASCII, escaped, cut to `limit` characters."""
    try:
        shown = ascii(text if not isinstance(text, str) else text[: limit + 1])
    except RecursionError:
        shown = "something nested too deeply"
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


def cut_off(size: int, needed: int) -> HeaderError:
    """Return the error for a file that ends too early; sizes in bytes."""
    share = 100 * size / needed
    why: Why = "stub" if share < 1 else "truncated"
    return HeaderError(why, f"{why}: {size:,} bytes are here of {needed:,} ({share:.2g} %)", "fetch the rest of it")
