"""ComfyUI and every node pack are at the locked commit: git's own tree id, computed from the files in the image."""

from __future__ import annotations

import hashlib
import io
import lzma
import re
import tarfile
from typing import TYPE_CHECKING

from gesso.builder.image.spares import of_folder

from .expected import record_of, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gesso.manifest.lock import LockedSource

    from .expected import Expected
    from .image_snapshot import Entry, ImageSnapshot

COMFYUI = "opt/ComfyUI/"
PACKS = f"{COMFYUI}custom_nodes/"
_BYTECODE = re.compile(r"(.*/)?__pycache__/[^/]+\.pyc\Z")

Leaf = tuple[str, str]  # git's mode, id of the content


def leaves(entries: Iterable[tuple[str, Entry]]) -> dict[str, Leaf]:
    """Return git's entries of files and links, by path, without Python's bytecode."""
    found = {}
    for path, entry in entries:
        if entry.kind == "file" and not _BYTECODE.match(path):
            found[path] = ("100755" if entry.mode & 0o100 else "100644", entry.blob)
        elif entry.kind == "link":
            found[path] = ("120000", blob_of(entry.target.encode()))
    return found


def of_project(folder: Path) -> dict[str, Leaf]:
    """Return the same for a folder of this project, as the build context takes it."""
    found = {}
    for info, data in of_folder(folder):
        content = info.linkname.encode() if info.issym() else data
        mode = "120000" if info.issym() else ("100755" if info.mode & 0o100 else "100644")
        found[info.name] = (mode, blob_of(content))
    return found


def blob_of(content: bytes) -> str:
    """Return git's id of a content."""
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()


def tree_of(found: Mapping[str, Leaf]) -> str:
    """Return git's id of a tree (git-mktree's format: mode, name, 0, id; folders sort as if they ended in /)."""
    here: dict[str, Leaf] = {}
    below: dict[str, dict[str, Leaf]] = {}
    for path, leaf in found.items():
        name, _, rest = path.partition("/")
        if rest:
            below.setdefault(name, {})[rest] = leaf
        else:
            here[name] = leaf
    rows = {name: (mode, blob) for name, (mode, blob) in here.items()}
    rows |= {name: ("40000", tree_of(children)) for name, children in below.items()}
    ordered = sorted(rows, key=lambda name: f"{name}/" if rows[name][0] == "40000" else name)
    data = b"".join(f"{rows[name][0]} {name}".encode() + b"\0" + bytes.fromhex(rows[name][1]) for name in ordered)
    return hashlib.sha1(b"tree %d\0%s" % (len(data), data), usedforsecurity=False).hexdigest()


def commits(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Compare ComfyUI and each pack with its locked tree, and check that there is no other pack."""
    packs = {name: f"{PACKS}{name}/" for name in expected.locked.lock.nodes}
    own = [(path, entry) for path, entry in snapshot.below(COMFYUI)
           if not any(f"{COMFYUI}{path}".startswith(folder) for folder in packs.values())]  # fmt: skip
    problems = _compare("ComfyUI", leaves(own), expected.locked.lock.comfyui, expected)
    loose = {node.name for node in expected.manifest.nodes if node.install}
    for name, folder in packs.items():
        found = leaves(snapshot.below(folder))
        if not found:
            problems.append(f"{name} is missing")
        elif name not in loose:
            problems += _compare(name, found, expected.locked.lock.nodes[name], expected)
    return problems


def published(snapshot: ImageSnapshot) -> set[str]:
    """Return the digests of ComfyUI's and the packs' files: `commits` checks that they are from public commits."""
    return {entry.sha256 for _, entry in snapshot.below(COMFYUI) if entry.sha256}


def _compare(name: str, found: Mapping[str, Leaf], locked: LockedSource, expected: Expected) -> list[str]:
    if locked.path is None:
        tree = tree_of(found)
        should_have = f"commit {str(locked.commit)[:12]} has tree {str(locked.tree)[:12]}"
        return [] if tree == locked.tree else [f"{name}: {should_have}, the image has tree {tree[:12]}"]
    should = of_project(expected.selection.project.root / locked.path)
    return some(f"{name}: {path} {_differs(found.get(path), should.get(path))}"
                for path in found.keys() | should.keys() if found.get(path) != should.get(path))  # fmt: skip


def _differs(found: Leaf | None, should: Leaf | None) -> str:
    if should is None:
        return "is not of this commit"
    return "is missing" if found is None else "is not as committed"


def spares(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Check that the copies that `gesso heal` restores from equal the installed files."""
    problems = []
    recorded = record_of(snapshot).get("spares", {})
    names = {"ComfyUI", "gesso", *expected.locked.lock.nodes}
    if set(recorded) != names:
        problems.append(f"spares of {sorted(recorded)}, not of {sorted(names)}")
    for name, spare in recorded.items():
        entry = snapshot.files.get(f"opt/gesso/spare/{name}.tar.xz")
        content = (entry.content if entry else None) or b""
        if hashlib.sha256(content).hexdigest() != spare["sha256"]:
            problems.append(f"spare {name} is not the recorded one")
            continue
        problems += some(_not_as_installed(snapshot, name, spare["target"].strip("/"), content))
    return problems


def _not_as_installed(snapshot: ImageSnapshot, name: str, target: str, content: bytes) -> Iterable[str]:
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(content))) as archive:
        for member in archive:
            path = f"{target}/{member.name}".lstrip("/")
            entry = snapshot.files.get(path)
            if member.issym():
                same = entry is not None and entry.target == member.linkname
            else:
                source = archive.extractfile(member)
                digest = hashlib.sha256(source.read() if source else b"").hexdigest()
                same = entry is not None and entry.sha256 == digest
            if not same:
                yield f"spare {name}: {path} is not what is installed"
