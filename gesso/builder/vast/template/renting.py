"""`invoke publish --vast`: the template of the image that was just pushed, and what is seen to before anything is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso.builder.publish.published import Published
from gesso.builder.vast import api_key
from gesso.builder.vast.template.command import describe
from gesso.builder.vast.template.command import make as _make
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

__all__ = ["describe", "make", "ready"]


def ready(manifest: Manifest, locked: Locked, repository: Reference, env: Mapping[str, str], *, dry_run: bool) -> None:
    """See, before gigabytes are pushed, that the template can be made: a trial is none, the key is there, it renders.

    Raises ManifestError and PublishError.
    """
    if manifest.trial:
        raise ManifestError("--vast: nobody can paint with a trial image", "publish it without --vast")
    base = api_key.base(env)
    if repository.is_loopback and base.startswith("https:"):
        raise ManifestError(f"{repository}: no host at Vast.ai can pull from this machine", "push it elsewhere")
    if not dry_run:
        api_key.find(env)
    render(manifest, locked, Published(repository.repository, f"sha256:{'0' * 64}", (), 0, 0))


def make(
    selection: Selection,
    prepared: tuple[Manifest, Locked],
    image: Published,
    env: Mapping[str, str],
    say: Callable[[str], None],
    *,
    dry_run: bool = False,
) -> Outcome:
    """Have the template of a pushed image at Vast.ai; it is written down beside the selection's lock."""
    return _make(prepared, image, env, say, path_of(selection), dry_run=dry_run)
