"""Whether there is room on disk for all that is to come, decided before the first byte. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.models.wanted import in_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gesso.manifest.schema import Model

RESERVE = 256 << 20  # bytes left free for logs and outputs; of a small disk a fiftieth


@dataclass(frozen=True)
class Disk:
    """One filesystem: what is free for us, and how much it holds in all, in bytes."""

    free: int
    total: int

    @property
    def usable(self) -> int:
        """What may be filled."""
        return self.free - min(RESERVE, self.total // 50)


@dataclass(frozen=True)
class Room:
    """What is fetched, what is left out and why, and by how much the required ones do not fit (disk: bytes)."""

    take: tuple[Model, ...]
    skip: Mapping[str, str]
    lacking: Mapping[str, int]


def plan(
    models: Sequence[Model], here: Mapping[str, int], disk_of: Mapping[str, str], disks: Mapping[str, Disk]
) -> Room:
    """Deal out the room: required models first, then recommended, then optional ones, the smallest first in each.

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
    return Room(tuple(take), skip, lacking)


def gigabytes(count: int) -> str:
    """Give a size as people read it, in GB or MB (powers of ten)."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
