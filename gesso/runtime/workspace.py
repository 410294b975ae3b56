"""Lay out /workspace, which may be an empty volume, a kept one, or somebody's own. Never destroys what is there."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gesso.errors import CheckError
from gesso.manifest.folders import FOLDERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.runtime.layout import Layout, Record

# ComfyUI and the packs list a folder only where it exists when they start.
_MORE_FOLDERS = ("configs", "embeddings", "hypernetworks", "vae_approx")


def lay_out(layout: Layout, record: Record, say: Callable[[str], None]) -> None:
    """Make the folders, lead /workspace/ComfyUI to them, and put the workflows in both places.

    Idempotent. Raises CheckError where the workspace cannot be written.
    """
    try:
        for folder in ("input", "output", "user/default/workflows", "gesso", "ComfyUI/workflows"):
            (layout.workspace / folder).mkdir(parents=True, exist_ok=True)
        for name in sorted({name for names in FOLDERS.values() for name in names} | set(_MORE_FOLDERS)):
            _make_where_writable(layout.models / name, say)
        for name in record.baked:
            _lead_to_baked(layout.baked / name, layout.models / name, layout, say)
        _lead(layout)
        _place_workflows(layout, record, say)
    except OSError as error:
        raise CheckError(
            f"{error.filename or layout.workspace}: {error.strerror}",
            f"give {layout.workspace} a writable volume with room, then start again",
        ) from None


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


def _lead(layout: Layout) -> None:
    """People look for everything under /workspace/ComfyUI: lead them to where it is."""
    home = layout.workspace / "ComfyUI"
    targets = {
        "models": layout.models,
        "user": layout.user,
        "input": layout.workspace / "input",
        "output": layout.workspace / "output",
        "custom_nodes": layout.comfyui / "custom_nodes",
    }
    for name, target in targets.items():
        link = home / name
        if not link.exists() and not link.is_symlink():
            link.symlink_to(target)


def _place_workflows(layout: Layout, record: Record, say: Callable[[str], None]) -> None:
    """Copy the baked graphs: both formats to the place where people look, what the editor opens to the editor's."""
    baked = layout.gesso / "workflows"
    for name, digest in sorted(record.workflows.items()):
        source = baked / name
        _place(source, digest, layout.workspace / "ComfyUI" / "workflows" / name, layout, say)
        if not name.endswith(".api.json"):
            _place(source, digest, layout.user / "default" / "workflows" / name, layout, say)


def _place(source: Path, digest: str, target: Path, layout: Layout, say: Callable[[str], None]) -> None:
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == digest:
        return
    if target.exists() or target.is_symlink():  # a person's changes are kept, out of the way of the locked graph
        kept = _free_name(layout.state / "replaced", target)
        shutil.move(target, kept)
        say(f"workspace: {target} was changed; yours is now {kept}")
    copy_atomically(source, target)


def _free_name(folder: Path, target: Path) -> Path:
    """Give a name that nothing has: two files of one name may have to be kept in the same second."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{target.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = (f"{stem}{f'-{n}' * (n > 1)}{target.suffix}" for n in itertools.count(1))
    return next(path for name in names if not os.path.lexists(path := folder / name))


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file so that its final path never shows a part of it."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(source.read_bytes())
            out.flush()
            os.fsync(out.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
