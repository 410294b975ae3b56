"""Lay out /workspace, which may be an empty volume, a kept one, or somebody's own. Never destroys what is there."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.errors import CheckError
from gesso.manifest.folders import FOLDERS
from gesso.runtime import atomic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record

_FOLDERS = ("input", "output", "user/default/workflows", "gesso", "ComfyUI/workflows")
# ComfyUI and the packs list a folder only where it exists when they start.
_MORE_FOLDERS = ("configs", "embeddings", "hypernetworks", "vae_approx")


def lay_out(layout: Layout, record: Record, say: Callable[[str], None]) -> None:
    """Make the folders, lead /workspace/ComfyUI to them, and put the workflows in both places.

    Idempotent. Raises CheckError where the workspace cannot be written.
    """
    try:
        restore(layout, record, say)
        for place in places(layout, record):
            put(place, layout, say)
    except OSError as error:
        raise CheckError(
            f"{error.filename or layout.workspace}: {error.strerror}",
            f"give {layout.workspace} a writable volume with room, then start again",
        ) from None


def restore(layout: Layout, record: Record, say: Callable[[str], None]) -> None:
    """Make the folders and links that are not there. Raises OSError."""
    for folder in _FOLDERS:
        (layout.workspace / folder).mkdir(parents=True, exist_ok=True)
    for name in _model_folders():
        _make_where_writable(layout.models / name, say)
    for name in record.baked:
        _lead_to_baked(layout.baked / name, layout.models / name, layout, say)
    for link, target in _links(layout).items():
        if not link.exists() and not link.is_symlink():
            link.symlink_to(target)


def lacking(layout: Layout, record: Record) -> list[Path]:
    """Name the folders and links that are not there, as far as they can be made."""
    found = [layout.workspace / folder for folder in _FOLDERS if not (layout.workspace / folder).is_dir()]
    if os.access(layout.models if layout.models.is_dir() else layout.workspace, os.W_OK):
        found += [layout.models / name for name in _model_folders() if not (layout.models / name).is_dir()]
        found += [path for name in record.baked if not os.path.lexists(path := layout.models / name)]
    return [*found, *(link for link in _links(layout) if not os.path.lexists(link))]


def _model_folders() -> list[str]:
    return sorted({name for names in FOLDERS.values() for name in names} | set(_MORE_FOLDERS))


def _make_where_writable(folder: Path, say: Callable[[str], None]) -> None:
    """A models directory may be a read-only mount: then ComfyUI lists what is in it, and that is all right."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        say(f"workspace: {folder} not made: {error.strerror}")


def _lead_to_baked(source: Path, link: Path, layout: Layout, say: Callable[[str], None]) -> None:
    """Lead from the models folder, which may be an empty volume, to a model in the image.

    What stands there already stays: whether it is right is for the check to say. A link into another image's models is
    renewed.
    """
    ours = link.is_symlink() and link.readlink().is_relative_to(layout.baked)
    if os.path.lexists(link) and not ours:
        return
    try:
        if ours:
            link.unlink()
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source)
    except OSError as error:
        say(f"workspace: {link} not made: {error.strerror}")


def _links(layout: Layout) -> dict[Path, Path]:
    """People look for everything under /workspace/ComfyUI: lead them to where it is."""
    home = layout.workspace / "ComfyUI"
    return {
        home / "models": layout.models,
        home / "user": layout.user,
        home / "input": layout.workspace / "input",
        home / "output": layout.workspace / "output",
        home / "custom_nodes": layout.comfyui / "custom_nodes",
    }


@dataclass(frozen=True)
class Place:
    """Where a baked graph belongs: `digest` is the sha256 of its bytes."""

    source: Path
    digest: str
    target: Path

    def right(self) -> bool:
        """Tell whether it is there, byte for byte. Raises OSError."""
        return self.target.is_file() and hashlib.sha256(self.target.read_bytes()).hexdigest() == self.digest


def places(layout: Layout, record: Record) -> list[Place]:
    """Give where the baked graphs belong.

    Both formats go where people look, what the editor opens to the editor's own folder.
    """
    found = []
    for name, digest in sorted(record.workflows.items()):
        source = layout.gesso / "workflows" / name
        found.append(Place(source, digest, layout.workspace / "ComfyUI" / "workflows" / name))
        if not name.endswith(".api.json"):
            found.append(Place(source, digest, layout.user / "default" / "workflows" / name))
    return found


def put(place: Place, layout: Layout, say: Callable[[str], None]) -> None:
    """Put a graph where it belongs. A person's changes are kept, out of the way of the locked one. Raises OSError.

    The image's own copy may be damaged as well: then what is there stays, and `gesso heal` restores both.
    """
    if place.right():
        return
    target = place.target
    content = place.source.read_bytes()
    if hashlib.sha256(content).hexdigest() != place.digest:
        say(f"workspace: {place.source} is not as locked: {target} is left as it is; `gesso heal` restores both")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        kept = free_name(layout.state / "replaced", target)
        if target.is_file() and not target.is_symlink():
            shutil.copy2(target, kept)  # the old one stays in its place until the new one is there
        else:
            shutil.move(target, kept)
        say(f"workspace: {target} was changed; yours is now {kept}")
    atomic.write_bytes(target, content)


def free_name(folder: Path, target: Path) -> Path:
    """Give a name that nothing has: two files of one name may have to be kept in the same second."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{target.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = (f"{stem}{f'-{n}' * (n > 1)}{target.suffix}" for n in itertools.count(1))
    return next(path for name in names if not os.path.lexists(path := folder / name))
