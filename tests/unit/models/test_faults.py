"""Faults are typed, say what to do next, and many sources' faults become one error that says the most useful thing."""

from __future__ import annotations

import errno
import os
from typing import get_args

import pytest

from gesso.errors import FetchError, GessoError, VerifyError
from gesso.models.faults import ContentError, LocalError, SourceError, SourceWhy, combine, cut_off, disk_error
from gesso.models.net.limits import Limits, next_try

DISK = {
    "disk-full": [errno.ENOSPC, errno.EDQUOT, errno.EFBIG],
    "read-only": [errno.EROFS, errno.EACCES, errno.EPERM],
    "in-the-way": [errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST, errno.ELOOP],
    "changed-under-us": [errno.EBUSY],
    "io-error": [errno.EIO, errno.ESTALE, errno.ENODEV],
}


@pytest.mark.parametrize(("why", "code"), [(why, code) for why, codes in DISK.items() for code in codes])
def test_what_our_own_disk_says(why: str, code: int) -> None:
    found = disk_error(OSError(code, os.strerror(code)), "vae/a.safetensors")
    assert isinstance(found, LocalError)
    assert (found.why, found.exit_code) == (why, 4)
    assert found.message == f"vae/a.safetensors: {os.strerror(code)}"
    step = {
        "disk-full": "room",
        "read-only": "writable",
        "in-the-way": "move away",
        "io-error": "disk",
        "changed-under-us": "what else uses it",
    }[why]
    assert step in found.next_step


def test_an_error_of_the_disk_without_words_is_still_said() -> None:
    assert disk_error(OSError("odd"), "a").message == "a: OSError"


def test_exit_codes_and_retries() -> None:
    source, content = SourceError("gone", "m"), ContentError("stub", "m")
    assert isinstance(source, FetchError)
    assert isinstance(content, VerifyError)
    assert (source.exit_code, content.exit_code) == (4, 5)
    assert (source.transient, content.transient, content.retry_after) == (False, False, None)
    assert source.next_step
    assert content.next_step
    assert (cut_off("m").why, cut_off("m").transient) == ("cut-off", True)


def test_one_source_is_said_in_its_own_words() -> None:
    fault = SourceError("not-found", "HTTP 404: it has moved", "look there")
    found = combine("vae/a", [("one.example", fault)])
    assert isinstance(found, SourceError)
    assert (found.why, found.message, found.next_step) == (
        "not-found", "vae/a: one.example: HTTP 404: it has moved", "look there",
    )  # fmt: skip


def test_several_sources_are_all_named_in_order() -> None:
    found = combine("vae/a", [("one", SourceError("gone", "first")), ("two", ContentError("html", "second"))])
    assert found.message == "vae/a: none of 2 sources gave it: one: first; two: second"
    assert isinstance(found, SourceError)


def test_only_wrong_bytes_everywhere_are_wrong_bytes() -> None:
    found = combine("a", [("one", ContentError("stub", "x", "step 1")), ("two", ContentError("html", "y", "step 2"))])
    assert isinstance(found, ContentError)
    assert (found.why, found.next_step, found.exit_code) == ("stub", "step 1", 5)


@pytest.mark.parametrize("why", ["needs-token", "bad-token", "gated"])
def test_what_a_person_can_mend_comes_first(why: SourceWhy) -> None:
    mendable = SourceError(why, "token", "set HF_TOKEN")
    found = combine("a", [("one", SourceError("unreachable", "x", "wait", transient=True)), ("two", mendable)])
    assert isinstance(found, SourceError)
    assert (found.why, found.next_step, found.transient) == (why, "set HF_TOKEN", False)


def test_no_source_at_all_is_an_error_too() -> None:
    found = combine("a", [])
    assert isinstance(found, GessoError)
    assert found.next_step


# ── whether another try can help (limits.what_next) is in test_limits; that it never hangs, here ──


@pytest.mark.parametrize("why", get_args(SourceWhy))
def test_no_fault_is_tried_for_ever(why: SourceWhy) -> None:
    """Follow the advice as obtaining does: it ends after a handful of tries, whatever the source answers."""
    limits = Limits()
    whole, mixed, failures, tries = False, True, 0, 0
    while True:
        tries += 1
        fault = SourceError(why, "m", transient=True)
        match next_try(fault, limits, whole=whole, mixed=mixed, failures=failures):
            case "in one piece":
                whole = True
            case "later":
                failures += 1
            case "from nothing":
                mixed = False
            case "give up":
                break
        assert tries < 20
    assert failures == limits.retries
