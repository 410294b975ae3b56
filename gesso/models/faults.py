"""Typed errors of fetching a model: of the source, of the file that it offers, of this machine.

Why two families of fault: after a SourceError another source, or the same one later, may do; after a ContentError the
source answers well, and with something else than the lock names.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Literal

from gesso.errors import FetchError, GessoError, VerifyError

if TYPE_CHECKING:
    from collections.abc import Sequence

SourceWhy = Literal[
    "needs-token", "bad-token", "gated", "forbidden", "not-found", "gone", "rate-limited", "server-error",
    "refused-request", "unreachable", "tls", "stalled", "cut-off", "not-http", "bad-answer", "bad-range", "changed",
    "encoded", "bad-redirect", "private-address", "insecure", "hub",
]  # fmt: skip
ContentWhy = Literal[
    "html", "json", "lfs-pointer", "pickle", "stub", "truncated", "oversized", "malformed", "wrong-size",
    "wrong-family", "wrong-hash",
]  # fmt: skip
LocalWhy = Literal["disk-full", "read-only", "io-error", "in-the-way", "changed-under-us"]

_TRY_LATER = "try again later"
_ANOTHER = "give the manifest another source for it"


class SourceError(FetchError):
    """A source did not serve the file. `transient`: worth another try; `retry_after`: seconds the server asked for.

    `source`: the host, if this is the combined error of a model.
    """

    source = ""

    def __init__(
        self, why: SourceWhy, message: str, next_step: str = _ANOTHER, *, transient: bool = False,
        retry_after: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message, next_step)
        self.why: SourceWhy = why
        self.transient = transient
        self.retry_after = retry_after


class ContentError(VerifyError):
    """A source serves another file than the locked one; retrying it cannot help."""

    transient = False
    retry_after = None
    source = ""

    def __init__(self, why: ContentWhy, message: str, next_step: str = _ANOTHER) -> None:
        super().__init__(message, next_step)
        self.why: ContentWhy = why


class LocalError(FetchError):
    """This machine cannot take the file: no other source would help."""

    def __init__(self, why: LocalWhy, message: str, next_step: str) -> None:
        super().__init__(message, next_step)
        self.why: LocalWhy = why


Fault = SourceError | ContentError


def cut_off(message: str) -> SourceError:
    """Return the error of a transfer that ended early or was reset; it is worth a retry."""
    return SourceError("cut-off", message, _TRY_LATER, transient=True)


def wrong_hash(digest: str, wanted: str) -> ContentError:
    """Return the error of a complete file with the wrong hash."""
    message = f"sha256 {digest}, the lock says {wanted}"
    return ContentError("wrong-hash", message, "the source has another file: correct the manifest, or its sources")


def disk_error(error: OSError, where: str) -> LocalError:
    """Turn an OSError of the local disk into an error with its meaning and the next step."""
    said = error.strerror or type(error).__name__
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return LocalError("disk-full", f"{where}: {said}", "make room, then run this again: it goes on where it was")
    if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return LocalError("read-only", f"{where}: {said}", "mount the models folder writable, or choose --models")
    if error.errno in {errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST, errno.ELOOP}:
        return LocalError("in-the-way", f"{where}: {said}", "move away what stands there, then run this again")
    if error.errno == errno.EBUSY:
        return LocalError("changed-under-us", f"{where}: {said}", "see what else uses it, then run this again")
    return LocalError("io-error", f"{where}: {said}", "check the disk (dmesg); a network volume may be gone")


def combine(name: str, failed: Sequence[tuple[str, Fault]]) -> GessoError:
    """Combine the errors of all sources of a model, each with its host, into one.

    A ContentError where every source offered wrong bytes, else a SourceError.
    """
    if not failed:
        return SourceError("not-found", f"{name}: has no source", _ANOTHER)
    told = "; ".join(f"{host}: {fault.message}" for host, fault in failed)
    message = f"{name}: {told}" if len(failed) == 1 else f"{name}: none of {len(failed)} sources gave it: {told}"
    combined: Fault
    refused = [(host, fault) for host, fault in failed if isinstance(fault, SourceError)]
    if not refused:
        host, first = next((host, fault) for host, fault in failed if isinstance(fault, ContentError))
        combined = ContentError(first.why, message, first.next_step)
    else:  # what a person can fix comes first: a token, a licence
        fixable = {"needs-token", "bad-token", "gated"}
        host, chief = next((pair for pair in refused if pair[1].why in fixable), refused[0])
        combined = SourceError(chief.why, message, chief.next_step, transient=chief.transient)
    combined.source = host
    return combined
