"""Check the disk space again for a file that is larger than planned: the lock's size was a hint, or missing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gesso.models.download.disk_space import Disk, gigabytes
from gesso.models.faults import LocalError

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.manifest.schema import Model


def check_fits(model: Model, host: str, size: int, partial: Path) -> None:
    """Check the disk again if the file at `host` is larger than planned.

    Raises LocalError where they do not fit, before the partial file takes what room there is; OSError.
    """
    planned = model.size or 0
    if size <= planned:
        return
    partial.parent.mkdir(parents=True, exist_ok=True)
    disk = os.statvfs(partial.parent)
    usable = Disk(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize).usable
    here = partial.lstat().st_blocks * 512 if os.path.lexists(partial) else 0
    if (lacking := size - usable - here) > 0:
        known = f"the lock says {planned:,} (unconfirmed)" if planned else "the lock does not say its size"
        said = f"{model.name}: {host} has {size:,} bytes, {known}; {gigabytes(lacking)} of that do not fit"
        raise LocalError("disk-full", said, "make room, or take a larger disk")
