"""Plan the disk space for a fetch before its first byte. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.models.tiers import in_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gesso.manifest.schema import Model

RESERVE = 256 << 20  # bytes left free for logs and outputs; of a small disk a fiftieth


@dataclass(frozen=True)
class Disk:
    """One filesystem: free and total space in bytes."""

    free: int
    total: int

    @property
    def usable(self) -> int:
        """The space that may be used."""
        return self.free - min(RESERVE, self.total // 50)


@dataclass(frozen=True)
class SpacePlan:
    """What is fetched, what is left out and why, and the bytes of required models that do not fit, by disk."""

    take: tuple[Model, ...]
    skip: Mapping[str, str]
    lacking: Mapping[str, int]


def plan(
    models: Sequence[Model], here: Mapping[str, int], disk_of: Mapping[str, str], disks: Mapping[str, Disk]
) -> SpacePlan:
    """Allocate space: required models first, then recommended, then optional ones, the smallest first in each.

    `here`: bytes of each model that a partial file has on disk already; `disk_of`: on which disk each model goes.
    """
    left = {name: disk.usable for name, disk in disks.items()}
    take, skip = [], {}
    lacking: dict[str, int] = {}
    for model in in_order(models):
        disk = disk_of[model.name]
        need = max(0, (model.size or 0) - here.get(model.name, 0))
        if need and need > left[disk] and model.tier != "required":
            skip[model.name] = f"{gigabytes(need)} do not fit: {gigabytes(max(0, left[disk]))} are left on the disk"
            continue
        left[disk] -= need
        take.append(model)
        if need and model.tier == "required" and left[disk] < 0:
            lacking[disk] = -left[disk]
    return SpacePlan(tuple(take), skip, lacking)


def gigabytes(count: int) -> str:
    """Format a size for people, in GB or MB (powers of ten)."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
