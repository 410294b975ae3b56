"""Interface of a step after the push, such as a template for the image. Publishing knows no provider.

Packages above implement it; gesso.builder.commands connects the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.builder.lock.lock_files import Locked
    from gesso.builder.publish.published import Published
    from gesso.builder.registry.reference import Reference
    from gesso.manifest.schema import Manifest
    from gesso.settings import Selection


class FollowUpResult(Protocol):
    """What a follow-up did, or would do in a dry run."""

    def as_json(self) -> dict[str, Any]:
        """Return the documented keys of `--json`."""

    def as_text(self) -> str:
        """Return the lines for a terminal."""


class FollowUp(Protocol):
    """A step after the push. `name` is its key in `--json` and its name in messages."""

    @property
    def name(self) -> str:
        """Return the name."""

    def check(self, manifest: Manifest, locked: Locked, repository: Reference, *, dry_run: bool) -> None:
        """Check before the push whether the step can succeed. Raises ManifestError and PublishError."""

    def run(
        self,
        selection: Selection,
        prepared: tuple[Manifest, Locked],
        image: Published,
        on_progress: Callable[[str], None],
        *,
        dry_run: bool = False,
    ) -> FollowUpResult:
        """Do the step for a pushed image, or return what it would do. Raises GessoError."""
