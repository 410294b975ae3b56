"""`invoke publish --vast`: the template step that follows a push (gesso.builder.publish.follow_up)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gesso.builder.publish.published import Published
from gesso.builder.vast import api_key
from gesso.builder.vast.template.command import publish
from gesso.builder.vast.template.records import path_of
from gesso.builder.vast.template.render import render
from gesso.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.builder.lock.lock_files import Locked
    from gesso.builder.registry.reference import Reference
    from gesso.builder.vast.template.command import Outcome
    from gesso.manifest.schema import Manifest
    from gesso.settings import Selection


@dataclass(frozen=True)
class TemplateFollowUp:
    """Creates the template of a pushed image at Vast.ai; `env` holds the API key."""

    env: Mapping[str, str] = field(repr=False)
    name: str = "template"

    def check(self, manifest: Manifest, locked: Locked, repository: Reference, *, dry_run: bool) -> None:
        """Check, before gigabytes are pushed, that the template can be created: no trial, a key, and it renders.

        Raises ManifestError and PublishError.
        """
        if manifest.trial:
            raise ManifestError("--vast: a trial image cannot generate images", "publish it without --vast")
        base = api_key.base_url(self.env)
        if repository.is_loopback and base.startswith("https:"):
            raise ManifestError(f"{repository}: no host at Vast.ai can pull from this machine", "push it elsewhere")
        if not dry_run:
            api_key.find(self.env)
        render(manifest, locked, Published(repository.repository, f"sha256:{'0' * 64}", (), 0, 0))

    def run(
        self,
        selection: Selection,
        prepared: tuple[Manifest, Locked],
        image: Published,
        on_progress: Callable[[str], None],
        *,
        dry_run: bool = False,
    ) -> Outcome:
        """Create or replace the template, and record it beside the selection's lock. Raises GessoError."""
        return publish(prepared, image, self.env, on_progress, path_of(selection), dry_run=dry_run)
