"""Read an image in a registry: its manifest, config and layers, with two or three small requests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso.builder.registry.client import INDEXES
from gesso.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gesso.builder.registry.client import RawManifest, Registry
    from gesso.builder.registry.reference import Reference

PLATFORM = ("linux", "amd64")


@dataclass(frozen=True)
class RemoteLayer:
    """A layer: digest and size in bytes, compressed; digest of its unpacked tar; the instruction that made it."""

    digest: str
    size: int
    diff_id: str
    made_by: str


@dataclass(frozen=True)
class RemoteImage:
    """One image in a registry; `reference` names it by digest."""

    reference: Reference
    manifest: RawManifest
    config_digest: str
    config_size: int
    config: Mapping[str, Any]
    layers: tuple[RemoteLayer, ...]

    @property
    def digest(self) -> str:
        """The digest of its manifest."""
        return self.manifest.digest

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its config."""
        return dict((self.config.get("config") or {}).get("Labels") or {})

    @property
    def created(self) -> str:
        """The creation time in its config: RFC 3339."""
        return str(self.config.get("created", ""))

    @property
    def compressed(self) -> int:
        """The bytes that a host without any of its layers pulls."""
        return sum(layer.size for layer in self.layers) + self.config_size + len(self.manifest.content)


def read(registry: Registry, reference: Reference) -> RemoteImage | None:
    """Read an image by tag or digest, verified; None where it does not exist.

    Raises PublishError.
    """
    found = registry.manifest(reference)
    if found is None:
        return None
    manifest = _loads(reference, found.content)
    if found.media_type in INDEXES or "manifests" in manifest:
        chosen = _choose(reference, manifest)
        found = registry.manifest(reference.at(chosen))
        if found is None:
            raise PublishError(f"{reference.at(chosen)}: listed in its index, but missing", "publish it again")
        manifest = _loads(reference, found.content)
    return _image(registry, reference.at(found.digest), found, manifest)


def _choose(reference: Reference, index: Mapping[str, Any]) -> str:
    for entry in index.get("manifests") or ():
        platform = entry.get("platform") or {}
        if (platform.get("os"), platform.get("architecture")) == PLATFORM:
            return str(entry["digest"])
    raise PublishError(f"{reference}: has no image for {'/'.join(PLATFORM)}", "use another image")


def _image(registry: Registry, reference: Reference, raw: RawManifest, manifest: Mapping[str, Any]) -> RemoteImage:
    try:
        described = manifest["config"]
        config = _loads(reference, registry.blob(reference, described["digest"]))
        rows = manifest["layers"]
        diff_ids = config["rootfs"]["diff_ids"]
        instructions = [row.get("created_by", "") for row in config.get("history") or () if not row.get("empty_layer")]
        if len(rows) != len(diff_ids):
            raise KeyError("layers")
        layers = tuple(
            RemoteLayer(str(row["digest"]), int(row["size"]), str(diff_id), instruction(by))
            for row, diff_id, by in zip(rows, diff_ids, _padded(instructions, len(rows)), strict=True)
        )
        return RemoteImage(reference, raw, str(described["digest"]), int(described["size"]), config, layers)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise PublishError(f"{reference}: is not a container image", "use an image's reference") from None


def _padded(instructions: Sequence[str], count: int) -> list[str]:
    return list(instructions) if len(instructions) == count else [""] * count


def instruction(text: str) -> str:
    """Return an instruction as in a Dockerfile, shortened."""
    words = text.removeprefix("RUN /bin/sh -c ").removesuffix("# buildkit").split()
    return " ".join(word for word in words if not word.startswith("--mount=")) or "base"


def _loads(reference: Reference, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PublishError(f"{reference}: the registry's response is not a manifest", "check the registry's name")
    return found
