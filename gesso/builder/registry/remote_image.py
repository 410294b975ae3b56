"""An image as a registry describes it: its manifest, its config, its layers. Reading is one or two small requests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso.builder.registry.client import INDEXES
from gesso.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gesso.builder.registry.client import Answer, Registry
    from gesso.builder.registry.reference import Reference

PLATFORM = ("linux", "amd64")


@dataclass(frozen=True)
class RemoteLayer:
    """A layer: its digest and size in bytes as it travels, the digest of what it unpacks to, who made it."""

    digest: str
    size: int
    diff_id: str
    made_by: str


@dataclass(frozen=True)
class RemoteImage:
    """One image in a registry; `reference` names it by digest."""

    reference: Reference
    manifest: Answer
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
        """When it was made, as its config says: RFC 3339."""
        return str(self.config.get("created", ""))

    @property
    def compressed(self) -> int:
        """What a host without any of it pulls, in bytes."""
        return sum(layer.size for layer in self.layers) + self.config_size + len(self.manifest.content)


def read(registry: Registry, reference: Reference) -> RemoteImage | None:
    """Read an image by tag or digest, each blob by its digest; None where there is none.

    Raises PublishError.
    """
    answer = registry.manifest(reference)
    if answer is None:
        return None
    manifest = _loads(reference, answer.content)
    if answer.media_type in INDEXES or "manifests" in manifest:
        chosen = _choose(reference, manifest)
        answer = registry.manifest(reference.at(chosen))
        if answer is None:
            raise PublishError(f"{reference.at(chosen)}: named by its index, and not there", "publish it again")
        manifest = _loads(reference, answer.content)
    return _image(registry, reference.at(answer.digest), answer, manifest)


def _choose(reference: Reference, index: Mapping[str, Any]) -> str:
    for entry in index.get("manifests") or ():
        platform = entry.get("platform") or {}
        if (platform.get("os"), platform.get("architecture")) == PLATFORM:
            return str(entry["digest"])
    raise PublishError(f"{reference}: has no image for {'/'.join(PLATFORM)}", "name another image")


def _image(registry: Registry, reference: Reference, answer: Answer, manifest: Mapping[str, Any]) -> RemoteImage:
    try:
        described = manifest["config"]
        config = _loads(reference, registry.blob(reference, described["digest"]))
        rows = manifest["layers"]
        diff_ids = config["rootfs"]["diff_ids"]
        made = [row.get("created_by", "") for row in config.get("history") or () if not row.get("empty_layer")]
        if len(rows) != len(diff_ids):
            raise KeyError("layers")
        layers = tuple(
            RemoteLayer(str(row["digest"]), int(row["size"]), str(diff_id), instruction(by))
            for row, diff_id, by in zip(rows, diff_ids, _padded(made, len(rows)), strict=True)
        )
        return RemoteImage(reference, answer, str(described["digest"]), int(described["size"]), config, layers)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise PublishError(f"{reference}: is no container image", "name an image") from None


def _padded(made: Sequence[str], count: int) -> list[str]:
    return list(made) if len(made) == count else [""] * count


def instruction(text: str) -> str:
    """Give an instruction as it stands in a Dockerfile, short."""
    words = text.removeprefix("RUN /bin/sh -c ").removesuffix("# buildkit").split()
    return " ".join(word for word in words if not word.startswith("--mount=")) or "base"


def _loads(reference: Reference, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PublishError(f"{reference}: the registry's answer is no manifest", "check the registry's name")
    return found
