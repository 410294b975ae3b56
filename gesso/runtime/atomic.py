"""Files put in their place so that a kill leaves the old one or the new one; what was there is copied away first.

Only files are ever renamed: a folder of a lower layer of the image cannot be (overlayfs says EXDEV).
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

HIDDEN = ".gesso-heal-"  # begins every temp name: ComfyUI imports nothing that begins with a dot, nor without .py
_CHUNK = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT}


def write(path: Path, read: Callable[[int], bytes], *, executable: bool) -> None:
    """Write a file in one step. Raises OSError; then what was there is untouched."""
    _through(path, lambda new: _fill(new, iter(lambda: read(_CHUNK), b""), 0o755 if executable else 0o644))


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a small file in one step. Raises OSError; then what was there is untouched."""
    _through(path, lambda new: _fill(new, (content,), mode))


def link(path: Path, target: str) -> None:
    """Make a symbolic link in one step. Raises OSError; then what was there is untouched."""
    _through(path, lambda new: new.symlink_to(target))


def keep(path: Path, aside: Path, name: str) -> None:
    """Copy what is at `path` to `aside`/`name`, or beside it where that is taken. A folder is left to its files.

    Links are copied as links. Raises OSError that names the file which could not be written.
    """
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        return
    copy = _room(aside, name)
    copy.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISLNK(mode):
        _through(copy, lambda new: new.symlink_to(path.readlink()))
    elif stat.S_ISREG(mode):
        _through(copy, lambda new: _copy(path, new))
    else:  # a pipe, a socket, a device: it has no content
        try:
            os.mknod(copy, mode)
        except OSError:
            copy.touch()


def clear(path: Path, aside: Path, name: str) -> None:
    """Have nothing at `path`, after a copy of everything there. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        for entry in sorted(path.iterdir()):
            clear(entry, aside, f"{name}/{entry.name}")
        path.rmdir()
    elif os.path.lexists(path):
        keep(path, aside, name)
        path.unlink()


def sweep(folder: Path) -> None:
    """Remove the temp names that a killed heal left in a folder."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.name.startswith(HIDDEN) and not entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    (folder / entry.name).unlink()


def forget_bytecode(path: Path) -> None:
    """Remove what Python compiled from a source file: it must not stand for another of the same size and second."""
    cache = path.parent / "__pycache__"
    if path.suffix == ".py" and not cache.is_symlink():
        for old in [p for p in cache.glob("*.pyc") if p.name.startswith(f"{path.stem}.")]:
            with contextlib.suppress(OSError):
                old.unlink()


def remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder below `top` that has nothing in it but bytecode, and those above it likewise."""
    while folder != top and folder.is_relative_to(top):
        try:
            if any(entry.name != "__pycache__" for entry in folder.iterdir()):
                return
            shutil.rmtree(folder / "__pycache__", ignore_errors=True)
            folder.rmdir()
        except OSError:
            return  # an empty folder does no harm
        folder = folder.parent


def is_full(error: OSError) -> bool:
    """Tell whether a disk had no room."""
    return error.errno in _FULL


def refused(error: OSError, path: Path) -> CheckError:
    """Say which file could not be put right, why, and what to do."""
    at = Path(os.fsdecode(error.filename2 or error.filename or path))
    if at.name.startswith(HIDDEN):  # nobody needs to know that one
        at = path if at.parent == path.parent else at.parent
    where = f"{path}" if at == path else f"{path}: {at}"
    if is_full(error):
        step = "make room on that disk, then heal again; nothing was lost"
    elif error.errno in {errno.EPERM, errno.EACCES, errno.EROFS, errno.EBUSY}:
        step = "take away what protects it (`lsattr`, `chattr -i`, a mount), then heal again"
    else:
        step = "start a fresh instance of this image"
    return CheckError(f"{where}: {error.strerror or error}", step)


def _through(path: Path, make: Callable[[Path], None]) -> None:
    """Have `make` make a hidden file beside `path`, then give it that name."""
    new = path.with_name(f"{HIDDEN}{secrets.token_hex(4)}")
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
    with contextlib.suppress(OSError):  # times are a courtesy
        shutil.copystat(path, new, follow_symlinks=False)


def _room(aside: Path, name: str) -> Path:
    """Give a path that nothing has: of two heals, or of one thing after another, all copies are kept."""
    first, _, rest = name.partition("/")
    for number in itertools.count(1):
        path = aside / (first if number == 1 else f"{first}-{number}") / rest
        above = itertools.takewhile(lambda folder: folder != aside, path.parents)
        if not os.path.lexists(path) and all(folder.is_dir() or not os.path.lexists(folder) for folder in above):
            return path
    raise AssertionError  # counting has no end


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
