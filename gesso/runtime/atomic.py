"""Replace files atomically: a kill leaves the old file or the new one. Existing files are backed up first.

Only files are ever renamed: a folder of a lower image layer cannot be (overlayfs: EXDEV).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from gesso.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TEMP_PREFIX = ".gesso-heal-"  # ComfyUI does not import names that begin with a dot or lack .py
_CHUNK = 1 << 20
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def write(path: Path, read: Callable[[int], bytes], *, executable: bool) -> None:
    """Write a file in one step. Raises OSError; the existing file is then untouched."""
    _replace(path, lambda new: _fill(new, iter(lambda: read(_CHUNK), b""), 0o755 if executable else 0o644))


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a small file in one step. Raises OSError; the existing file is then untouched."""
    _replace(path, lambda new: _fill(new, (content,), mode))


def link(path: Path, target: str) -> None:
    """Create a symbolic link in one step. Raises OSError; the existing file is then untouched."""
    _replace(path, lambda new: new.symlink_to(target))


def back_up(path: Path, quarantine: Path, name: str) -> None:
    """Copy the file at `path` to `quarantine`/`name`, or to a free name beside it; do nothing for a folder.

    Links are copied as links. Raises OSError that names the file which could not be written.
    """
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        return
    copy = _free_path(quarantine, name)
    copy.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISLNK(mode):
        _replace(copy, lambda new: new.symlink_to(path.readlink()))
    elif stat.S_ISREG(mode):
        _replace(copy, lambda new: _copy(path, new))
    else:  # a pipe, a socket, a device: no content
        try:
            os.mknod(copy, mode)
        except OSError:
            copy.touch()


def clear(path: Path, quarantine: Path, name: str) -> None:
    """Remove everything at `path` after backing it up. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        for entry in sorted(path.iterdir()):
            clear(entry, quarantine, f"{name}/{entry.name}")
        path.rmdir()
    elif os.path.lexists(path):
        back_up(path, quarantine, name)
        path.unlink()


def remove_temporary(folder: Path) -> None:
    """Remove the temporary files that a killed heal left in a folder."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.name.startswith(TEMP_PREFIX) and not entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    (folder / entry.name).unlink()


def remove_bytecode(path: Path) -> None:
    """Remove the bytecode of a source file: Python would use it for a new file of the same size and second."""
    cache = path.parent / "__pycache__"
    if path.suffix == ".py" and not cache.is_symlink():
        for old in [p for p in cache.glob("*.pyc") if p.name.startswith(f"{path.stem}.")]:
            with contextlib.suppress(OSError):
                old.unlink()


def remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder below `top` that holds nothing but bytecode, then its parents likewise."""
    while folder != top and folder.is_relative_to(top):
        try:
            if any(entry.name != "__pycache__" for entry in folder.iterdir()):
                return
            shutil.rmtree(folder / "__pycache__", ignore_errors=True)
            folder.rmdir()
        except OSError:
            return  # an empty folder does no harm
        folder = folder.parent


def is_disk_full(error: OSError) -> bool:
    """Return whether the disk was full."""
    return error.errno in _DISK_FULL


def repair_error(error: OSError, path: Path) -> CheckError:
    """Return an error that names the file that could not be repaired, why, and what to do."""
    at = Path(os.fsdecode(error.filename2 or error.filename or path))
    if at.name.startswith(TEMP_PREFIX):  # the temporary file
        at = path if at.parent == path.parent else at.parent
    where = f"{path}" if at == path else f"{path}: {at}"
    if is_disk_full(error):
        step = "make room on that disk, then run the heal again; nothing was lost"
    elif error.errno in {errno.EPERM, errno.EACCES, errno.EROFS, errno.EBUSY}:
        step = "remove the protection (`lsattr`, `chattr -i`, a mount), then run the heal again"
    else:
        step = "start a fresh instance of this image"
    return CheckError(f"{where}: {error.strerror or error}", step)


def _replace(path: Path, make: Callable[[Path], None]) -> None:
    """Create a hidden file beside `path` with `make`, then rename it to `path`."""
    new = path.with_name(f"{TEMP_PREFIX}{secrets.token_hex(4)}")
    try:
        make(new)
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    _sync_folder(path.parent)


def _fill(new: Path, chunks: Iterable[bytes], mode: int) -> None:
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        for chunk in chunks:
            _write_all(handle, chunk, new)
        os.fchmod(handle, mode)
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_all(handle: int, data: bytes, new: Path) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(handle, view) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(new)) from None


def _copy(path: Path, new: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _fill(new, iter(lambda: os.read(handle, _CHUNK), b""), stat.S_IMODE(os.fstat(handle).st_mode))
    finally:
        os.close(handle)
    with contextlib.suppress(OSError):  # times are optional
        shutil.copystat(path, new, follow_symlinks=False)


def _free_path(quarantine: Path, name: str) -> Path:
    """Return an unused path, so that copies of several heals or of several files never overwrite each other."""
    first, _, rest = name.partition("/")
    for number in itertools.count(1):
        path = quarantine / (first if number == 1 else f"{first}-{number}") / rest
        above = itertools.takewhile(lambda folder: folder != quarantine, path.parents)
        if not os.path.lexists(path) and all(folder.is_dir() or not os.path.lexists(folder) for folder in above):
            return path
    raise AssertionError  # count() is endless


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems do not support it
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
