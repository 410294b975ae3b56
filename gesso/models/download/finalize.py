"""The last step of a fetch: move the verified file to its final path."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from gesso.models import quarantine, receipts

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.manifest.schema import Model
    from gesso.models.folder import Folder


def finalize(folder: Folder, model: Model, partial: Path, handle: int) -> None:
    """Rename a hashed and synced file to its final path, sync the folder, and write the receipt. Raises OSError."""
    path = folder.path(model.name)
    if not _is(partial, handle):
        raise OSError(errno.EBUSY, "its partial file was removed by another process")
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
        quarantine.move(folder, model.name, "replaced")  # another process created it meanwhile: keep it
    before = os.fstat(handle)
    partial.replace(path)
    sync(path.parent)
    after = os.fstat(handle)
    if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
        receipts.write(folder, model.name, model.sha256, after)
    remove_leftovers(folder, model)


def remove_leftovers(folder: Folder, model: Model) -> bool:
    """Remove the files of a run killed after the rename; return whether there were any."""
    found = False
    for path in (folder.partial(model.name, model.sha256), folder.journal(model.name, model.sha256)):
        with contextlib.suppress(OSError):
            path.unlink()
            found = True
    return found


def _is(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def sync(folder: Path) -> None:
    """Sync a folder after a rename. Some filesystems refuse that; the rename is atomic there too."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
