"""Every failure that gesso expects, each with its exit code and the next step for the person who meets it.

The codes are documented in docs/reference.md; anything that is not one of these exits 70 and leaves a report.
"""

from __future__ import annotations

from typing import ClassVar

INTERRUPTED = 130
UNEXPECTED = 70


class GessoError(Exception):
    """An expected failure: `message` says what happened, to what and why; `next_step` what to do about it."""

    exit_code: ClassVar[int] = UNEXPECTED

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.next_step}" if self.next_step else self.message


class CheckError(GessoError):
    """Something is wrong with what was checked: a running image, a workflow, a test report."""

    exit_code = 1


class ManifestError(GessoError):
    """Usage or manifest: what a person wrote cannot be used as it is."""

    exit_code = 2


class LockError(GessoError):
    """The lock is missing, stale, or cannot be made."""

    exit_code = 3


class FetchError(GessoError):
    """Bytes could not be had from where they should come: sources, wheels, models."""

    exit_code = 4


class VerifyError(GessoError):
    """Bytes are here but are not what the lock says."""

    exit_code = 5


class BuildError(GessoError):
    """The engine, the builder or a build step failed."""

    exit_code = 6


class PublishError(GessoError):
    """A registry or a template service refused."""

    exit_code = 7
