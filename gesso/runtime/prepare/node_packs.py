"""Compare the node packs with the image's record, by git's tree ID of each folder.

Differences are reported, not undone: they may be intended. Five packs take 50 ms once their files are cached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso.manifest.git_tree import tree_id

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record

# What a pack writes to its own folder when used, or reads there if a person created it.
_RUNTIME_FILES = {"comfyui_controlnet_aux": frozenset({"ckpts", "config.yaml"})}


def runtime_files(name: str) -> frozenset[str]:
    """Return the names in a pack's folder that belong to the instance, not to the pack."""
    return _RUNTIME_FILES.get(name, frozenset())


def runtime_folders(layout: Layout, record: Record) -> list[Path]:
    """Return the folders in the image's packs that these write when used: downloads of controlnet_aux, for example."""
    packs = [layout.comfyui / "custom_nodes" / name for name in sorted(record.raw.get("nodes", {}))]
    return [pack / name for pack in packs if pack.is_dir() for name in runtime_files(pack.name) if "." not in name]


def changed(layout: Layout, record: Record) -> tuple[str, ...]:
    """Return the node packs that differ from the lock or are missing.

    In trials, gesso's stand-ins are watched in the same way: the build records their tree IDs. Trials of older
    versions of gesso have none; there, only missing packs are found.
    """
    found = []
    for name, source in sorted(record.raw.get("nodes", {}).items()):
        locked = source.get("tree")
        folder = layout.comfyui / "custom_nodes" / name
        try:
            now = tree_id(folder, runtime_files(name))
        except OSError:
            found.append(f"{name}: is missing or cannot be read")
            continue
        if locked and now != locked:
            found.append(f"{name}: does not match the lock; files were changed or added")
    return tuple(found)
