"""After the push: what the registry has, beside what the engine had. Nothing is taken for done before this agrees."""

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
    """Name every difference between the engine's image and the registry's; `sizes` are the blobs'. Pure."""
    found = []
    if not is_same(local, remote):
        found.append(f"it is another image: {remote.config_digest}, not {local.image_id}")
    if [layer.diff_id for layer in local.layers] != [layer.diff_id for layer in remote.layers]:
        found.append(f"its layers are others ({len(remote.layers)}, not {len(local.layers)})")
    changed = {name for name in local.labels.keys() | remote.labels.keys()
               if local.labels.get(name) != remote.labels.get(name)}  # fmt: skip
    if changed:
        found.append(f"its labels are others: {', '.join(sorted(changed))}")
    wrong = {layer: sizes.get(layer.digest) for layer in remote.layers if sizes.get(layer.digest) != layer.size}
    found += [
        f"layer {layer.digest[:19]} is not there" if size is None else f"layer {layer.digest[:19]} has {size} bytes"
        for layer, size in wrong.items()
    ]
    return found


def read_back(registry: Registry, reference: Reference, local: LocalImage) -> RemoteImage:
    """Read an image by digest and compare it, each layer's presence and size included.

    Raises PublishError that names what differs.
    """
    remote = remote_image.read(registry, reference)
    if remote is None:
        raise PublishError(f"{reference}: pushed, and not there", "push again; if it stays so, ask those who run it")
    sizes = {layer.digest: registry.blob_size(reference, layer.digest) for layer in remote.layers}
    if found := differences(local, remote, sizes):
        raise PublishError(f"{reference}: what the registry gives back differs: {'; '.join(found)}", "push again")
    return remote
