"""Errors of the local disk, explained with a look at the disk: where a link leads, for example."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from gesso.models import faults
from gesso.models.faults import LocalError

_NOT_THERE = {errno.EEXIST, errno.ENOENT}  # mkdir on a dangling link says that it exists, open that it does not


def disk_error(error: OSError, where: str) -> LocalError:
    """Turn an OSError into an error with its meaning and the next step; a dangling link is named with its target."""
    if (link := dangling_link(error)) is not None:
        return LocalError("in-the-way", f"{where}: {describe(link)}", f"{remedy(link)}, then run this again")
    return faults.disk_error(error, where)


def dangling_link(error: OSError) -> Path | None:
    """Return the link to nothing that an error comes from: the path that failed, or a folder above it."""
    if error.errno not in _NOT_THERE or not isinstance(error.filename, str | os.PathLike):
        return None
    path = Path(error.filename)
    return next((each for each in (path, *path.parents) if each.is_symlink() and not each.exists()), None)


def describe(link: Path) -> str:
    """Return where a dangling link leads, such as to a network disk that is not mounted."""
    return f"{link} leads to {link.parent / link.readlink()}, which does not exist"


def remedy(link: Path) -> str:
    """Return what to do about a dangling link."""
    return f"mount {link.parent / link.readlink()}, or remove the link"
