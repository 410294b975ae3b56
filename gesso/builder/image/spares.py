"""Spares: archives of the image's own files, from which `gesso heal` restores. Reproducible.

Compression takes seconds, so results are cached by the digest of their input.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso.builder.image.plan import EPOCH
from gesso.manifest.git_tree import tree_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_PRESET = 1  # ComfyUI: 1.2 s for 6.6 MB; the default, 6, takes 9.4 s for 5.0 MB
_JUNK = {"__pycache__", ".git", ".DS_Store"}
GESSO = "gesso"


@dataclass(frozen=True)
class Spare:
    """One archive. `target`: the folder in the image that it restores; `loose`: other files may exist there."""

    name: str
    target: str
    content: bytes
    loose: bool = False

    @property
    def path(self) -> str:
        """The path in the build context; files that differ by architecture are below arch/, in their own layer."""
        return f"{'arch/' if self.name == GESSO else ''}spare/{self.name}.tar.xz"

    def as_record(self) -> dict[str, Any]:
        """Return the entry in build.json."""
        entry = {"sha256": hashlib.sha256(self.content).hexdigest(), "target": self.target}
        return entry | ({"loose": True} if self.loose else {})


def make(
    comfyui: Path,
    nodes: Mapping[str, Path],
    loose: frozenset[str],
    own: Mapping[str, str],
    rootfs: Path,
    cache: Path,
) -> tuple[Spare, ...]:
    """Pack ComfyUI, every node pack, and gesso's own files: those of `own` by their path, and all of `rootfs`.

    `loose`: the packs whose install script adds files.
    """
    texts = [(_info(path, len(data)), data) for path, text in own.items() for data in [text.encode()]]
    return (
        Spare("ComfyUI", "/opt/ComfyUI", _compressed(tar(of_folder(comfyui)), cache)),
        *(of_pack(name, folder, cache, loose=name in loose) for name, folder in sorted(nodes.items())),
        Spare(GESSO, "/", _compressed(tar([*texts, *of_folder(rootfs)]), cache)),
    )


def of_pack(name: str, folder: Path, cache: Path, *, loose: bool = False) -> Spare:
    """Pack one node pack."""
    return Spare(name, f"/opt/ComfyUI/custom_nodes/{name}", _compressed(tar(of_folder(folder)), cache), loose)


def of_folder(folder: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield every file and link below a folder, except what the build context excludes too."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if any(map(_is_junk, path.relative_to(folder).parts)):
            continue
        if path.is_symlink():
            info = _info(name, 0)
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
            yield info, b""
        elif path.is_file():
            data = path.read_bytes()
            yield _info(name, len(data), executable=bool(path.stat().st_mode & 0o100)), data


def tree_of(folder: Path) -> str | None:
    """Return git's tree ID of a folder as the build context takes it; None if it is empty."""
    return tree_id(folder, is_ignored=_is_junk)


def _is_junk(name: str) -> bool:
    return name in _JUNK or name.endswith(".pyc")


def tar(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Return a tar archive that depends on names, modes and contents alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in sorted(members, key=lambda member: os.fsencode(member[0].name)):
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _info(name: str, size: int, *, executable: bool = False) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, EPOCH, 0o755 if executable else 0o644
    return info


def _compressed(data: bytes, cache: Path) -> bytes:
    """Compress, or read the cached result. Its name contains its own digest too, which reveals damage."""
    key = f"{hashlib.sha256(data).hexdigest()}-{_PRESET}-"
    for cached in cache.glob(f"{key}*.tar.xz"):
        content = cached.read_bytes()
        if cached.name == f"{key}{hashlib.sha256(content).hexdigest()}.tar.xz":
            return content
        cached.unlink(missing_ok=True)
    content = lzma.compress(data, preset=_PRESET)
    cache.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=cache, prefix=".new-")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(name).replace(cache / f"{key}{hashlib.sha256(content).hexdigest()}.tar.xz")
    return content
