"""Compare what was built in as files (ComfyUI, node packs, gesso's own) with the image's own copy, and restore it.

Links are never followed: a link in the place of a file or a folder is itself a difference.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from gesso.errors import CheckError
from gesso.manifest.git_tree import NOT_SOURCE
from gesso.runtime import atomic
from gesso.runtime.heal.spares import members
from gesso.runtime.prepare import node_packs

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from gesso.runtime.layout import Layout, Spare

_CHUNK = 1 << 20
_COMFYUI = "/opt/ComfyUI"
# User data in ComfyUI's folder: its default data folders, and settings that it reads there.
_USER_ENTRIES = frozenset(
    {
        "models", "input", "output", "user", "temp", "web_custom_versions", "extra_model_paths.yaml", "venv", ".venv",
        ".comfy_environment", "comfyui.log",
    }
)  # fmt: skip
_PACKS = "custom_nodes"  # packs have spares of their own; packs that a user added are ignored


@dataclass(frozen=True)
class Difference:
    """A path below the target of a spare ("." for itself) that differs from how it was built in."""

    path: str
    how: Literal["gone", "changed", "extra"]

    def __str__(self) -> str:
        return f"{os.fsencode(self.path).decode('utf-8', 'backslashreplace')} ({self.how})"


def differences(layout: Layout, spare: Spare) -> tuple[Difference, ...]:
    """Compare a folder with its archive, file by file: content, executable bit, links.

    Raises CheckError where the archive cannot be used, or the folder cannot be read.
    """
    found: dict[str, Difference] = {}
    archived: set[str] = set()
    ignored = _user_entries(spare)
    folders = _Folders(layout, spare)
    for member, read in members(layout, spare):
        if member.name.partition("/")[0] in ignored:
            continue
        archived.add(member.name)
        blocker, path = folders.find(member.name)
        if blocker is not None:
            found[blocker] = Difference(blocker, "changed")
        if path is None:
            found[member.name] = Difference(member.name, "gone")
        elif not _same(path, member, read):
            found[member.name] = Difference(member.name, "changed")
    if spare.target != "/" and not spare.loose:
        base, below = layout.locate(spare.target)
        if folders.is_folder(below):
            skipped = ignored | {_PACKS} if spare.target == _COMFYUI else ignored
            for name in _extra(base / below, "", archived, skipped):
                found.setdefault(name, Difference(name, "extra"))
    return tuple(found[path] for path in sorted(found))


def restore(
    layout: Layout,
    spare: Spare,
    differences: Iterable[Difference],
    quarantine: Path,
    on_progress: Callable[[str], None],
) -> None:
    """Restore what differs, and touch nothing else. The previous files are copied below `quarantine`/NAME first.

    Where it is killed, each file is either the old or the restored one. Continues after a file that fails.
    Raises CheckError for the first one that failed; it is then unchanged.
    """
    damaged = {difference.path: difference.how for difference in differences}
    work = _Restore(layout, spare, quarantine)
    parents = set()
    for member, read in members(layout, spare):
        parents.add(member.name.rpartition("/")[0])
        if damaged.get(member.name) in {"gone", "changed"}:
            work.attempt(member.name, partial(work.put, member, read))
    for parent in parents:
        base, below = layout.locate(f"{spare.target.rstrip('/')}/{parent}/x")
        atomic.remove_temporary((base / below).parent)
    for path, how in damaged.items():
        if how == "extra":
            work.attempt(path, work.remove)
    if work.done:
        files = "file" if work.done == 1 else "files"
        on_progress(f"{spare.name}: {work.done} {files} restored; the previous ones are in {quarantine}")
    if work.failed is not None:
        raise work.failed


class _Restore:
    """One restore: how many files are done, and the first error."""

    def __init__(self, layout: Layout, spare: Spare, quarantine: Path) -> None:
        self._layout, self._spare, self._quarantine = layout, spare, quarantine
        self.done, self._disk_full = 0, False
        self.failed: CheckError | None = None

    def attempt(self, path: str, step: Callable[[Path, str], None]) -> None:
        """Process one file; after a full disk no further one is tried."""
        if self._disk_full:
            return
        base, below = self._layout.locate(_absolute_path(self._spare, path))
        try:
            step(base, below)
            self.done += 1
        except OSError as error:
            self._disk_full = atomic.is_disk_full(error)
            self.failed = self.failed or atomic.repair_error(error, base / below)

    def put(self, member: tarfile.TarInfo, read: Callable[[int], bytes], base: Path, below: str) -> None:
        """Write the archived file in the place of whatever is there."""
        base.mkdir(parents=True, exist_ok=True)
        folder = base
        for part in below.split("/")[:-1]:
            folder /= part
            if not _is_real_folder(folder):
                self._clear(base, folder)
                folder.mkdir(mode=0o755)
        path = base / below
        if os.path.lexists(path):
            atomic.back_up(path, self._quarantine, self._quarantine_name(base, path))
            if _is_real_folder(path):  # nothing can be renamed over it
                self._clear(base, path)
        if member.issym():
            atomic.link(path, member.linkname)
        else:
            atomic.write(path, read, executable=bool(member.mode & 0o100))
        atomic.remove_bytecode(path)

    def remove(self, base: Path, below: str) -> None:
        """Remove an extra file, and folders that are empty without it."""
        path = base / below
        self._clear(base, path)
        atomic.remove_bytecode(path)
        top = base / self._layout.locate(self._spare.target)[1]
        atomic.remove_empty(path.parent, top)

    def _clear(self, base: Path, path: Path) -> None:
        atomic.clear(path, self._quarantine, self._quarantine_name(base, path))

    def _quarantine_name(self, base: Path, path: Path) -> str:
        target = base / self._layout.locate(self._spare.target)[1]
        below = path.relative_to(target) if path != target and path.is_relative_to(target) else path.name
        return f"{self._spare.name}/{below}"


class _Folders:
    """Caches which paths of a target are real folders."""

    def __init__(self, layout: Layout, spare: Spare) -> None:
        self._layout, self._spare = layout, spare
        self._base = layout.locate(spare.target)[0]
        self._checked: dict[tuple[Path, str], bool] = {}

    def find(self, name: str) -> tuple[str | None, Path | None]:
        """Return what blocks a path, if anything does, and the path itself where it exists."""
        base, below = self._layout.locate(_absolute_path(self._spare, name))
        parts = below.split("/")
        for count in range(1, len(parts)):
            folder = "/".join(parts[:count])
            if not self._is_folder(base, folder):
                relative = name.split("/")[: max(0, name.count("/") + 1 - (len(parts) - count))]
                return ("/".join(relative) or ".") if os.path.lexists(base / folder) else None, None
        path = base / below
        return None, path if os.path.lexists(path) else None

    def is_folder(self, below: str) -> bool:
        """Return whether every component down to `below` is a folder, and not a link to one."""
        parts = below.split("/") if below else []
        return self._base.is_dir() and all(
            self._is_folder(self._base, "/".join(parts[: count + 1])) for count in range(len(parts))
        )

    def _is_folder(self, base: Path, below: str) -> bool:
        if (base, below) not in self._checked:
            self._checked[base, below] = _is_real_folder(base / below)
        return self._checked[base, below]


def _absolute_path(spare: Spare, path: str) -> str:
    return f"{spare.target.rstrip('/')}/{path}"


def _user_entries(spare: Spare) -> frozenset[str]:
    """Return the entries at the top of a target that hold user data."""
    if spare.target == _COMFYUI:
        return _USER_ENTRIES
    return node_packs.runtime_files(spare.name)


def _is_real_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _same(path: Path, member: tarfile.TarInfo, read: Callable[[int], bytes]) -> bool:
    """Return whether a file equals its archived copy; False where it cannot be read."""
    try:
        status = path.lstat()
        if member.issym():
            return stat.S_ISLNK(status.st_mode) and str(path.readlink()) == member.linkname
        if not stat.S_ISREG(status.st_mode) or status.st_size != member.size:
            return False
        if (status.st_mode ^ member.mode) & 0o100:
            return False
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            while expected := read(_CHUNK):
                if file.read(len(expected)) != expected:
                    return False
            return not file.read(1)
    except OSError:
        return False


def _extra(folder: Path, below: str, archived: set[str], ignored: frozenset[str]) -> Iterator[str]:
    """Yield every file that the archive does not contain.

    Raises CheckError where a folder cannot be read.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise CheckError(f"{folder}: {error.strerror}", "start a fresh instance of this image") from None
    for entry in entries:
        path = f"{below}{entry.name}"
        if (
            entry.name in NOT_SOURCE
            or entry.name in ignored
            or entry.name.startswith(atomic.TEMP_PREFIX)
            or path in archived
        ):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _extra(folder / entry.name, f"{path}/", archived, frozenset())
        else:
            yield path
