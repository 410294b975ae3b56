"""Whether another try of a source can help."""

from __future__ import annotations

import pytest

from gesso.models.faults import ContentError, Fault, SourceError
from gesso.models.net.limits import MOST, Limits, next_try

LIMITS = Limits(retries=3, patience=60)
LATER = SourceError("server-error", "m", transient=True)


def after(fault: Fault, *, whole: bool = False, mixed: bool = False, failures: int = 0) -> str:
    return next_try(fault, LIMITS, whole=whole, mixed=mixed, failures=failures)


@pytest.mark.parametrize("why", ["changed", "bad-range"])
def test_a_server_that_is_confused_about_parts_is_asked_for_the_whole_once(why: str) -> None:
    fault = SourceError(why, "m")  # type: ignore[arg-type]
    assert after(fault) == "in one piece"
    assert after(fault, whole=True) == "give up"


def test_a_wrong_hash_counts_against_a_source_only_where_all_bytes_were_its_own() -> None:
    fault = ContentError("wrong-hash", "m")
    assert after(fault, mixed=True) == "from nothing"
    assert after(fault, mixed=False) == "give up"
    assert after(ContentError("wrong-family", "m"), mixed=True) == "give up"


def test_what_may_pass_is_tried_again_a_number_of_times() -> None:
    assert [after(LATER, failures=n) for n in range(5)] == ["later", "later", "later", "give up", "give up"]


@pytest.mark.parametrize("why", ["not-found", "gated", "bad-token", "needs-token", "forbidden", "gone", "tls"])
def test_what_will_not_pass_is_not_tried_again(why: str) -> None:
    assert after(SourceError(why, "m")) == "give up"  # type: ignore[arg-type]


@pytest.mark.parametrize(("seconds", "expected"), [(0, "later"), (60, "later"), (61, "give up"), (86_400, "give up")])
def test_a_server_that_wants_too_long_a_wait_is_left(seconds: float, expected: str) -> None:
    fault = SourceError("rate-limited", "m", transient=True, retry_after=seconds)
    assert after(fault) == expected


def test_what_is_bounded_is_bounded() -> None:
    limits = Limits()
    assert limits.connections == MOST
    assert 0 < limits.retries < 20
    assert limits.backoff > 0
    assert limits.patience > 0
