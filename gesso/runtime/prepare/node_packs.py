"""Compare the node packs with the lock, by git's tree ID of each folder.

Differences are reported, not undone: they may be intended. Five packs take 50 ms once their files are cached.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record

NOT_SOURCE = frozenset({"__pycache__", ".git"})
# What a pack writes to its own folder when used, or reads there if a person created it.
_RUNTIME_FILES = {"comfyui_controlnet_aux": frozenset({"ckpts", "config.yaml"})}


def runtime_files(name: str) -> frozenset[str]:
    """Return the names in a pack's folder that belong to the instance, not to the pack."""
    return _RUNTIME_FILES.get(name, frozenset())


def runtime_folders(layout: Layout, record: Record) -> list[Path]:
    """Return the folders in the image's packs that these write when used: downloads of controlnet_aux, for example."""
    packs = [layout.comfyui / "custom_nodes" / name for name in sorted(record.raw.get("nodes", {}))]
    return [pack / name for pack in packs if pack.is_dir() for name in runtime_files(pack.name) if "." not in name]


def tree_id(folder: Path, exclude: frozenset[str] = frozenset()) -> bytes | None:
    """Return git's tree ID of a folder's content; None for an empty folder, which git does not track.

    Raises OSError if something cannot be read.
    """
    rows = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in NOT_SOURCE or entry.name in exclude:
                continue
            name = os.fsencode(entry.name)
            if entry.is_dir(follow_symlinks=False):
                inner = tree_id(folder / entry.name)
                if inner is not None:
                    rows.append((name + b"/", b"40000 " + name + b"\0" + inner))
                continue
            if entry.is_symlink():
                mode, content = b"120000", os.fsencode((folder / entry.name).readlink())
            else:
                executable = entry.stat().st_mode & 0o100
                mode, content = b"100755" if executable else b"100644", (folder / entry.name).read_bytes()
            rows.append((name, mode + b" " + name + b"\0" + _id(b"blob", content)))
    return _id(b"tree", b"".join(row for _, row in sorted(rows))) if rows else None


def _id(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(b"%s %d\0" % (kind, len(content)) + content, usedforsecurity=False).digest()


def changed(layout: Layout, record: Record) -> tuple[str, ...]:
    """Return the node packs that differ from the lock or are missing. A trial's packs have no tree ID."""
    found = []
    for name, source in sorted(record.raw.get("nodes", {}).items()):
        locked = source.get("tree")
        folder = layout.comfyui / "custom_nodes" / name
        try:
            now = tree_id(folder, runtime_files(name))
        except OSError:
            found.append(f"{name}: is missing or cannot be read")
            continue
        if locked and (now is None or now.hex() != locked):
            found.append(f"{name}: does not match the lock; files were changed or added")
    return tuple(found)
