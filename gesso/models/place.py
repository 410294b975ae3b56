"""The last step of a fetch: from here on the file is visible under its final name, and it is the right one."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from gesso.models import quarantine, receipts

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.manifest.schema import Model
    from gesso.models.folder import Folder


def put_in_place(folder: Folder, model: Model, partial: Path, handle: int) -> None:
    """Rename a file whose bytes were hashed and synced, make the rename last, and write the receipt. Raises OSError."""
    path = folder.path(model.name)
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
        quarantine.put(folder, model.name, "replaced")  # somebody put it there meanwhile: it is theirs, and kept
    before = os.fstat(handle)
    partial.replace(path)
    sync(path.parent)
    after = os.fstat(handle)
    if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
        receipts.write(folder, model.name, model.sha256, after)
    folder.journal(model.name, model.sha256).unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Make a rename last. Some filesystems refuse to fsync a folder: the rename is atomic there all the same."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
