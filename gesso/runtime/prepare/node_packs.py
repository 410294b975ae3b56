"""Are the node packs what was built in? By git's own id of a folder's whole content, which the lock has.

What differs is reported, not undone: a person may have meant it. Five packs take 50 ms, once their files were read.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record

NOT_SOURCE = frozenset({"__pycache__", ".git"})
# What a pack writes into its own folder when it is used, or reads there where a person made it.
_WRITTEN = {"comfyui_controlnet_aux": frozenset({"ckpts", "config.yaml"})}


def written(name: str) -> frozenset[str]:
    """Name what in a pack's own folder belongs to the instance, not to the pack."""
    return _WRITTEN.get(name, frozenset())


def tree_of(folder: Path, without: frozenset[str] = frozenset()) -> bytes | None:
    """Give git's id of what is in a folder; None for an empty one, which git does not know.

    Raises OSError where something cannot be read.
    """
    rows = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in NOT_SOURCE or entry.name in without:
                continue
            name = os.fsencode(entry.name)
            if entry.is_dir(follow_symlinks=False):
                inner = tree_of(folder / entry.name)
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
    """Name the node packs that are not as locked, or gone. Those of a trial come from the project and have no id."""
    found = []
    for name, source in sorted(record.raw.get("nodes", {}).items()):
        locked = source.get("tree")
        folder = layout.comfyui / "custom_nodes" / name
        try:
            now = tree_of(folder, written(name))
        except OSError:
            found.append(f"{name}: is not there or cannot be read")
            continue
        if locked and (now is None or now.hex() != locked):
            found.append(f"{name}: is not as locked; somebody changed or added files")
    return tuple(found)
