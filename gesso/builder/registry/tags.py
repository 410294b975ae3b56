"""Tags of an image in a registry: which are fixed, and which one moves. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gesso.builder.registry.local_image import LocalImage
    from gesso.builder.registry.reference import Reference
    from gesso.builder.registry.remote_image import RemoteImage


@dataclass(frozen=True)
class Tags:
    """`moving` points to the newest image; `fixed`, the most specific first, never move."""

    moving: str
    fixed: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """Every tag, in the order of creation: the moving one last, when the image is complete."""
        return (*self.fixed, self.moving)


def tags_of(arch: str, version: str, cuda: str, *, trial: bool) -> Tags:
    """Return an image's tags: `sdxl-0.1.0-cu130` and `sdxl-0.1.0` are fixed, `sdxl` moves."""
    name = f"{arch}-trial" if trial else arch
    fixed = f"{name}-{version.replace('+', '_')}"
    return Tags(name, (f"{fixed}-cu{cuda.replace('.', '')}", fixed))


def is_same(local: LocalImage, remote: RemoteImage) -> bool:
    """Check whether an image in a registry is the engine's.

    An image id is the digest of its config or, in newer stores, of its manifest: either matches.
    """
    return local.image_id in (remote.config_digest, remote.digest)


def check_fixed(
    repository: Reference, local: LocalImage, existing: Mapping[str, RemoteImage | None], tags: Tags
) -> None:
    """Raise PublishError, with both images, where a fixed tag would move; `existing`: the image of each tag."""
    for tag in tags.fixed:
        found = existing.get(tag)
        if found is not None and not is_same(local, found):
            raise PublishError(
                f"{repository.tagged(tag)} is {found.digest} (image {found.config_digest}) and is never moved; "
                f"this one is image {local.image_id}",
                "increase gesso's version and build again, or publish the existing image",
            )
