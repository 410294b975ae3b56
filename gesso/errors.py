"""The expected failures, each with its exit code and a next step for the user.

The codes are documented in docs/reference.md; any other exception exits with 70 and writes a report.
"""

from __future__ import annotations

from typing import ClassVar

INTERRUPTED = 130
UNEXPECTED = 70


class GessoError(Exception):
    """An expected failure: `message` says what failed and why, `next_step` how to fix it."""

    exit_code: ClassVar[int] = UNEXPECTED

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.next_step}" if self.next_step else self.message


class CheckError(GessoError):
    """A check failed: of a running image, a workflow, a test report."""

    exit_code = 1


class ManifestError(GessoError):
    """Invalid usage, manifest or other user input."""

    exit_code = 2


class LockError(GessoError):
    """The lock is missing, stale, or cannot be created."""

    exit_code = 3


class FetchError(GessoError):
    """A download failed: of sources, wheels or models."""

    exit_code = 4


class VerifyError(GessoError):
    """Files do not match the lock."""

    exit_code = 5


class BuildError(GessoError):
    """The engine, the builder or a build step failed."""

    exit_code = 6


class PublishError(GessoError):
    """A registry or a template service refused the request."""

    exit_code = 7
