"""What was built in as files (ComfyUI, node packs, gesso's own): compared with the image's own copy, and put right.

Nothing is followed that is a link: a link in the place of a file or a folder is what differs.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from gesso.errors import CheckError
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
# In ComfyUI's folder, but people's: data where no other folder was named, and settings that it reads where they are.
_PEOPLES = frozenset(
    {
        "models", "input", "output", "user", "temp", "web_custom_versions", "extra_model_paths.yaml", "venv", ".venv",
        ".comfy_environment", "comfyui.log",
    }
)  # fmt: skip
_PACKS = "custom_nodes"  # packs have spares of their own; one that somebody added is none of heal's business


@dataclass(frozen=True)
class Difference:
    """A path below the target of a spare ("." for itself) that is not as it was built in."""

    path: str
    how: Literal["gone", "changed", "extra"]

    def __str__(self) -> str:
        return f"{os.fsencode(self.path).decode('utf-8', 'backslashreplace')} ({self.how})"


def differences(layout: Layout, spare: Spare) -> tuple[Difference, ...]:
    """Compare a folder with its archive, file by file: content, executable or not, links.

    Raises CheckError where the archive cannot be used, or the folder not be read.
    """
    found: dict[str, Difference] = {}
    known: set[str] = set()
    left = _left_alone(spare)
    seen = _Folders(layout, spare)
    for member, read in members(layout, spare):
        if member.name.partition("/")[0] in left:
            continue
        known.add(member.name)
        blocker, path = seen.find(member.name)
        if blocker is not None:
            found[blocker] = Difference(blocker, "changed")
        if path is None:
            found[member.name] = Difference(member.name, "gone")
        elif not _same(path, member, read):
            found[member.name] = Difference(member.name, "changed")
    if spare.target != "/" and not spare.loose:
        base, below = layout.inside(spare.target)
        if seen.is_folder(below):
            skipped = left | {_PACKS} if spare.target == _COMFYUI else left
            for name in _extra(base / below, "", known, skipped):
                found.setdefault(name, Difference(name, "extra"))
    return tuple(found[path] for path in sorted(found))


def restore(
    layout: Layout, spare: Spare, differences: Iterable[Difference], aside: Path, say: Callable[[str], None]
) -> None:
    """Put right what differs, and touch nothing else. What was there is copied below `aside`/NAME first.

    Killed at any moment, a file is the old one or the right one. Goes on after a file that refuses.
    Raises CheckError that names the first one that refused; it is then as it was.
    """
    wrong = {difference.path: difference.how for difference in differences}
    work = _Work(layout, spare, aside)
    parents = set()
    for member, read in members(layout, spare):
        parents.add(member.name.rpartition("/")[0])
        if wrong.get(member.name) in {"gone", "changed"}:
            work.attempt(member.name, partial(work.put, member, read))
    for parent in parents:
        base, below = layout.inside(f"{spare.target.rstrip('/')}/{parent}/x")
        atomic.sweep((base / below).parent)
    for path, how in wrong.items():
        if how == "extra":
            work.attempt(path, work.take_out)
    if work.done:
        say(
            f"{spare.name}: {work.done} {'file' if work.done == 1 else 'files'} put right; what was there is in {aside}"
        )
    if work.failed is not None:
        raise work.failed


class _Work:
    """One restore: what was done, and the first thing that failed."""

    def __init__(self, layout: Layout, spare: Spare, aside: Path) -> None:
        self._layout, self._spare, self._aside = layout, spare, aside
        self.done, self._hopeless = 0, False
        self.failed: CheckError | None = None

    def attempt(self, path: str, step: Callable[[Path, str], None]) -> None:
        """Do one file; after a full disk none is tried any more."""
        if self._hopeless:
            return
        base, below = self._layout.inside(_absolute(self._spare, path))
        try:
            step(base, below)
            self.done += 1
        except OSError as error:
            self._hopeless = atomic.is_full(error)
            self.failed = self.failed or atomic.refused(error, base / below)

    def put(self, member: tarfile.TarInfo, read: Callable[[int], bytes], base: Path, below: str) -> None:
        """Write the right one in the place of whatever is there."""
        base.mkdir(parents=True, exist_ok=True)
        folder = base
        for part in below.split("/")[:-1]:
            folder /= part
            if not _is_real_folder(folder):
                self._clear(base, folder)
                folder.mkdir(mode=0o755)
        path = base / below
        if os.path.lexists(path):
            atomic.keep(path, self._aside, self._kept_as(base, path))
            if _is_real_folder(path):  # nothing can be renamed over it
                self._clear(base, path)
        if member.issym():
            atomic.link(path, member.linkname)
        else:
            atomic.write(path, read, executable=bool(member.mode & 0o100))
        atomic.forget_bytecode(path)

    def take_out(self, base: Path, below: str) -> None:
        """Remove what does not belong there, and folders that are empty without it."""
        path = base / below
        self._clear(base, path)
        atomic.forget_bytecode(path)
        top = base / self._layout.inside(self._spare.target)[1]
        atomic.remove_empty(path.parent, top)

    def _clear(self, base: Path, path: Path) -> None:
        atomic.clear(path, self._aside, self._kept_as(base, path))

    def _kept_as(self, base: Path, path: Path) -> str:
        above = base / self._layout.inside(self._spare.target)[1]
        inside = path.relative_to(above) if path != above and path.is_relative_to(above) else path.name
        return f"{self._spare.name}/{inside}"


class _Folders:
    """Which folders of a target are folders: every one is looked at once."""

    def __init__(self, layout: Layout, spare: Spare) -> None:
        self._layout, self._spare = layout, spare
        self._base = layout.inside(spare.target)[0]
        self._known: dict[tuple[Path, str], bool] = {}

    def find(self, name: str) -> tuple[str | None, Path | None]:
        """Give what stands in the way of a path, if anything does, and the path itself where it exists."""
        base, below = self._layout.inside(_absolute(self._spare, name))
        parts = below.split("/")
        for count in range(1, len(parts)):
            folder = "/".join(parts[:count])
            if not self._is_folder(base, folder):
                own = name.split("/")[: max(0, name.count("/") + 1 - (len(parts) - count))]
                return ("/".join(own) or ".") if os.path.lexists(base / folder) else None, None
        path = base / below
        return None, path if os.path.lexists(path) else None

    def is_folder(self, below: str) -> bool:
        """Tell whether everything down to `below` is a folder, and no link to one."""
        parts = below.split("/") if below else []
        return self._base.is_dir() and all(
            self._is_folder(self._base, "/".join(parts[: count + 1])) for count in range(len(parts))
        )

    def _is_folder(self, base: Path, below: str) -> bool:
        if (base, below) not in self._known:
            self._known[base, below] = _is_real_folder(base / below)
        return self._known[base, below]


def _absolute(spare: Spare, path: str) -> str:
    return f"{spare.target.rstrip('/')}/{path}"


def _left_alone(spare: Spare) -> frozenset[str]:
    """Name what at the top of a target is people's."""
    if spare.target == _COMFYUI:
        return _PEOPLES
    return node_packs.written(spare.name)


def _is_real_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _same(path: Path, member: tarfile.TarInfo, read: Callable[[int], bytes]) -> bool:
    """Compare one file; what cannot be read is not the same."""
    try:
        here = path.lstat()
        if member.issym():
            return stat.S_ISLNK(here.st_mode) and str(path.readlink()) == member.linkname
        if not stat.S_ISREG(here.st_mode) or here.st_size != member.size:
            return False
        if (here.st_mode ^ member.mode) & 0o100:
            return False
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            while expected := read(_CHUNK):
                if file.read(len(expected)) != expected:
                    return False
            return not file.read(1)
    except OSError:
        return False


def _extra(folder: Path, below: str, known: set[str], left: frozenset[str]) -> Iterator[str]:
    """Name every file that the archive does not have.

    Raises CheckError where a folder cannot be read.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise CheckError(f"{folder}: {error.strerror}", "start a fresh instance of this image") from None
    for entry in entries:
        path = f"{below}{entry.name}"
        if (
            entry.name in node_packs.NOT_SOURCE
            or entry.name in left
            or entry.name.startswith(atomic.HIDDEN)
            or path in known
        ):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _extra(folder / entry.name, f"{path}/", known, frozenset())
        else:
            yield path
