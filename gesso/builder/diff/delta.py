"""Compare two images: the layers that an update pulls, and the changed contents. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Layer:
    """A layer: the digest of its unpacked tar, by which engines share layers, and its size in bytes (None: unknown)."""

    diff_id: str
    size: int | None
    made_by: str


@dataclass(frozen=True)
class ComparedImage:
    """An image to compare; `compressed`: layer sizes are compressed sizes; `record`: its build.json."""

    name: str
    digest: str
    compressed: bool
    layers: tuple[Layer, ...]
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Delta:
    """The difference between two images."""

    old: ComparedImage
    new: ComparedImage
    pulled: tuple[Layer, ...]
    shared: tuple[Layer, ...]
    changes: Mapping[str, list[str]]

    @property
    def size(self) -> int:
        """Bytes to pull; layers of unknown size count as 0."""
        return sum(layer.size or 0 for layer in self.pulled)

    def as_json(self) -> dict[str, Any]:
        """Return what `invoke diff --json` prints."""
        return {
            "old": {"name": self.old.name, "digest": self.old.digest},
            "new": {"name": self.new.name, "digest": self.new.digest},
            "bytes": self.size,
            "compressed": self.new.compressed,
            "pulled": [{"diff_id": p.diff_id, "size": p.size, "made_by": p.made_by} for p in self.pulled],
            "shared": [{"diff_id": p.diff_id, "size": p.size, "made_by": p.made_by} for p in self.shared],
            "changes": dict(self.changes),
        }

    def lines(self) -> list[str]:
        """Return the lines for a terminal."""
        how = "compressed" if self.new.compressed else "unpacked"
        head = f"{self.size / 1e6:,.1f} MB to pull ({how}) in {len(self.pulled)} of {len(self.new.layers)} layers"
        rows = [
            f"from  {self.old.name}  {self.old.digest}",
            f"to    {self.new.name}  {self.new.digest}",
            f"{head}; {len(self.shared)} are shared",
            *(f"  {_size(layer)}  {layer.made_by[:88]}" for layer in self.pulled),
        ]
        for what, changes in self.changes.items():
            rows += [f"{what}: {'nothing changed' if not changes else ''}".rstrip(), *(f"  {line}" for line in changes)]
        return rows


def compare(old: ComparedImage, new: ComparedImage) -> Delta:
    """Compare two images by their layers and records."""
    have = {layer.diff_id for layer in old.layers}
    return Delta(
        old,
        new,
        tuple(layer for layer in new.layers if layer.diff_id not in have),
        tuple(layer for layer in new.layers if layer.diff_id in have),
        changes(old.record, new.record),
    )


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the changes between two records, by kind: + added, - removed, ~ changed."""
    kinds = {
        "base": _base, "packages": _packages, "nodes": _nodes, "models": _models, "workflows": _workflows,
    }  # fmt: skip
    return {name: _changes(kind(old), kind(new)) for name, kind in kinds.items()}


def _base(record: Mapping[str, Any]) -> dict[str, str]:
    base = record.get("base") or {}
    return {"base": str(base.get("digest") or base.get("bootstrap") or "?"), "gesso": str(record.get("gesso", "?"))}


def _packages(record: Mapping[str, Any]) -> dict[str, str]:
    return dict((record.get("python") or {}).get("pins") or {})


def _nodes(record: Mapping[str, Any]) -> dict[str, str]:
    sources = {"ComfyUI": record.get("comfyui") or {}, **(record.get("nodes") or {})}
    return {name: str(s.get("commit") or s.get("path") or "?")[:40] for name, s in sources.items()}


def _models(record: Mapping[str, Any]) -> dict[str, str]:
    baked = set(record.get("baked") or ())
    return {
        m["name"]: f"{m['sha256'][:12]} {_megabytes(m.get('size'))} {m.get('tier', '')}"
        f"{', in a layer' if m['name'] in baked else ''}"
        for m in record.get("models") or ()
    }


def _megabytes(size: int | None) -> str:
    return "? MB" if size is None else f"{size / 1e6:,.1f} MB"


def _workflows(record: Mapping[str, Any]) -> dict[str, str]:
    titles = record.get("workflow_titles") or {}  # by name; only the API format is published under it
    shown = {f"{name}.api.json": f' "{title}"' for name, title in titles.items()}
    return {
        name: f"{str(digest)[:12]}{shown.get(name, '')}" for name, digest in (record.get("workflows") or {}).items()
    }


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    rows = []
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            rows.append(f"+ {name} {new[name]}")
        elif name not in new:
            rows.append(f"- {name} {old[name]}")
        elif old[name] != new[name]:
            rows.append(f"~ {name} {old[name]} -> {new[name]}")
    return rows


def _size(layer: Layer) -> str:
    return f"{_megabytes(layer.size):>12}"
