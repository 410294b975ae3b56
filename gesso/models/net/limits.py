"""Limits of retries and waits for a source, and whether a retry can help. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from gesso.models.faults import Fault


BLOCK = 512 << 10  # bytes: the unit of a partial file, and what a first request asks for, so that its bytes count
MOST = 16  # connections to one source


@dataclass(frozen=True)
class Limits:
    """Limits for a source. Times in seconds, rates in bytes per second."""

    connections: int = MOST
    retries: int = 5  # of one connection in a row, without a block from any
    backoff: float = 0.5  # before the first retry; doubles
    patience: float = 60.0  # the longest wait that a server may request
    floor: int = 1024  # less than this over a whole `stall` is a stall too


def next_try(
    fault: Fault, limits: Limits, *, whole: bool, mixed: bool, failures: int
) -> Literal["in one piece", "from nothing", "later", "give up"]:
    """Decide whether a retry of the same source can help, after `failures` transient failures.

    `whole`: the body was already asked for in one piece; `mixed`: the bytes may be to blame, not the source's file,
    for they were not all of this source and of now, or they may have been hurt on their way. Pure.
    """
    if fault.why in {"changed", "bad-range"} and not whole:
        return "in one piece"  # one answer is all of one piece
    if fault.why == "wrong-hash" and mixed:
        return "from nothing"  # an earlier run's bytes, or another source's, may be to blame
    patient = (fault.retry_after or 0) <= limits.patience
    return "later" if fault.transient and patient and failures < limits.retries else "give up"
