"""The last step of a fetch: from here on the file is visible under its final name, and it is the right one."""

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


def put_in_place(folder: Folder, model: Model, partial: Path, handle: int) -> None:
    """Rename a file whose bytes were hashed and synced, make the rename last, and write the receipt. Raises OSError."""
    path = folder.path(model.name)
    if not _is(partial, handle):
        raise OSError(errno.EBUSY, "its partial file was taken away by something else")
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
        quarantine.put(folder, model.name, "replaced")  # somebody put it there meanwhile: it is theirs, and kept
    before = os.fstat(handle)
    partial.replace(path)
    sync(path.parent)
    after = os.fstat(handle)
    if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
        receipts.write(folder, model.name, model.sha256, after)
    tidy(folder, model)


def tidy(folder: Folder, model: Model) -> bool:
    """Take away what a run that was killed after the rename has left. True where there was something."""
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
    """Make a rename last. Some filesystems refuse to fsync a folder: the rename is atomic there all the same."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
