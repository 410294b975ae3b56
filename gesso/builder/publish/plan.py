"""The plan of a publish: which layers and tags the registry has, which preconditions are not met. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso.builder.registry.tags import is_same

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gesso.builder.registry.local_image import LocalImage, LocalLayer
    from gesso.builder.registry.reference import Reference
    from gesso.builder.registry.remote_image import RemoteImage, RemoteLayer
    from gesso.builder.registry.tags import Tags


@dataclass(frozen=True)
class Row:
    """A layer of the image, and the registry's copy of it where one of the images read has it."""

    layer: LocalLayer
    existing: RemoteLayer | None


@dataclass(frozen=True)
class Plan:
    """The plan of one publish. `existing`: the registry's image by tag; `missing`: unmet preconditions."""

    image: LocalImage
    repository: Reference
    tags: Tags
    existing: Mapping[str, RemoteImage | None]
    rows: tuple[Row, ...]
    missing: tuple[str, ...]
    counts: Mapping[str, int]
    signed: str

    @property
    def published(self) -> RemoteImage | None:
        """The image in the registry, where one of its tags points to it already."""
        return next((found for found in self.existing.values() if found and is_same(self.image, found)), None)

    def as_json(self) -> dict[str, Any]:
        """Return what `--dry-run --json` prints."""
        return {
            "image": self.image.image_id,
            "repository": self.repository.repository,
            "tags": {
                tag: {"moves": tag == self.tags.moving, "there": _digest(self.existing.get(tag))}
                for tag in self.tags.all
            },
            "layers": [
                {"diff_id": row.layer.diff_id, "size": row.layer.size, "made_by": row.layer.made_by,
                 "there": row.existing.digest if row.existing else None}
                for row in self.rows
            ],
            "missing": list(self.missing),
            "sbom": dict(self.counts),
            "signed": self.signed,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """Return the lines for a terminal."""
        to_push = [row for row in self.rows if row.existing is None]
        size = sum(row.layer.size or 0 for row in to_push)
        return [
            f"image    {self.image.reference}  {self.image.image_id}",
            f"to       {self.repository.repository}",
            *(f"tag      {_tag(tag, self)}" for tag in self.tags.all),
            f"layers   {len(to_push)} of {len(self.rows)} to push, {size / 1e6:,.1f} MB unpacked; the rest is there",
            *(f"  {'push ' if row.existing is None else 'there'} {_megabytes(row)}  {row.layer.made_by[:80]}"
              for row in self.rows),
            f"sbom     {', '.join(f'{count} {kind}' for kind, count in self.counts.items())}",
            f"signed   {self.signed}",
            *(f"MISSING  {each}" for each in self.missing),
        ]  # fmt: skip


def rows(image: LocalImage, known: Iterable[RemoteImage]) -> tuple[Row, ...]:
    """Match each layer of an image with those of the registry's images."""
    existing = {layer.diff_id: layer for each in known for layer in each.layers}
    return tuple(Row(layer, existing.get(layer.diff_id)) for layer in image.layers)


def _digest(found: RemoteImage | None) -> str | None:
    return found.digest if found is not None else None


def _tag(tag: str, plan: Plan) -> str:
    found = plan.existing.get(tag)
    if found is None:
        change = "new"
    elif is_same(plan.image, found):
        change = f"is {found.digest} already"
    else:
        change = f"moves from {found.digest}" if tag == plan.tags.moving else f"is {found.digest}: CONFLICT"
    return f"{tag}  {change}{'' if tag == plan.tags.moving else ', never moved'}"


def _megabytes(row: Row) -> str:
    size = "        ?" if row.layer.size is None else f"{row.layer.size / 1e6:9,.1f}"
    return f"{size} MB" + (f" (as {row.existing.size / 1e6:,.1f} MB)" if row.existing else "")
