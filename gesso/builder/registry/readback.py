"""Read an image back after the push and compare it with the engine's. A push succeeds only where they match."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso.builder.registry import remote_image
from gesso.builder.registry.tags import is_same
from gesso.errors import PublishError

if TYPE_CHECKING:
    from gesso.builder.registry.client import Registry
    from gesso.builder.registry.local_image import LocalImage
    from gesso.builder.registry.reference import Reference
    from gesso.builder.registry.remote_image import RemoteImage


def differences(local: LocalImage, remote: RemoteImage, sizes: dict[str, int | None]) -> list[str]:
    """Return every difference between the engine's image and the registry's; `sizes` are the blobs'. Pure."""
    found = []
    if not is_same(local, remote):
        found.append(f"another image: {remote.config_digest}, not {local.image_id}")
    if [layer.diff_id for layer in local.layers] != [layer.diff_id for layer in remote.layers]:
        found.append(f"its layers differ ({len(remote.layers)}, not {len(local.layers)})")
    changed = {name for name in local.labels.keys() | remote.labels.keys()
               if local.labels.get(name) != remote.labels.get(name)}  # fmt: skip
    if changed:
        found.append(f"its labels differ: {', '.join(sorted(changed))}")
    wrong = {layer: sizes.get(layer.digest) for layer in remote.layers if sizes.get(layer.digest) != layer.size}
    found += [
        f"layer {layer.digest[:19]} is missing" if size is None else f"layer {layer.digest[:19]} has {size} bytes"
        for layer, size in wrong.items()
    ]
    return found


def read_back(registry: Registry, reference: Reference, local: LocalImage) -> RemoteImage:
    """Read an image by digest and compare it, including each layer's existence and size.

    Raises PublishError that lists the differences.
    """
    remote = remote_image.read(registry, reference)
    if remote is None:
        raise PublishError(
            f"{reference}: pushed, but not found", "push again; if this persists, contact the registry's operator"
        )
    sizes = {layer.digest: registry.blob_size(reference, layer.digest) for layer in remote.layers}
    if found := differences(local, remote, sizes):
        raise PublishError(f"{reference}: the registry's copy differs: {'; '.join(found)}", "push again")
    return remote
