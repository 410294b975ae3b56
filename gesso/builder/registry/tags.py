"""Under which names an image lies in a registry, and which of them may never lead elsewhere. Pure."""

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
    """`moving` leads to the newest; `fixed`, the most exact one first, lead to one image for ever."""

    moving: str
    fixed: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """Every tag, in the order in which they are made: whoever follows the moving one gets a finished image."""
        return (*self.fixed, self.moving)


def tags_of(arch: str, version: str, cuda: str, *, trial: bool) -> Tags:
    """Give an image's tags: `sdxl-0.1.0-cu130` and `sdxl-0.1.0` are fixed, `sdxl` moves."""
    name = f"{arch}-trial" if trial else arch
    fixed = f"{name}-{version.replace('+', '_')}"
    return Tags(name, (f"{fixed}-cu{cuda.replace('.', '')}", fixed))


def is_same(local: LocalImage, remote: RemoteImage) -> bool:
    """Tell whether an image in a registry is the engine's.

    An engine names an image by its config or, in newer stores, by its manifest: either settles it.
    """
    return local.image_id in (remote.config_digest, remote.digest)


def check_fixed(repository: Reference, local: LocalImage, there: Mapping[str, RemoteImage | None], tags: Tags) -> None:
    """Refuse to move what must not move; `there` has what each fixed tag leads to.

    Raises PublishError that names both images.
    """
    for tag in tags.fixed:
        found = there.get(tag)
        if found is not None and not is_same(local, found):
            raise PublishError(
                f"{repository.tagged(tag)} is {found.digest} (image {found.config_digest}) and is never moved; "
                f"this one is image {local.image_id}",
                "raise gesso's version and build again, or publish the image that is there",
            )
