"""Debian's part: the locked base, the manifest's packages and their dependencies, each file as packaged."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gesso.builder.image.build import base_reference

from .config import base_layers
from .expected import some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .expected import Expected
    from .image_snapshot import ImageSnapshot

INFO = "var/lib/dpkg/info/"
_MERGED = re.compile(r"(bin|sbin|lib|lib32|lib64|libx32)/")
_LEFT_OUT = re.compile(r"usr/share/(doc|man|locale|info|lintian|bug)/")  # a slim base does not have them


def canonical(path: str) -> str:
    """Return the canonical path of a package's file: Debian has /bin, /lib and /sbin in /usr."""
    return f"usr/{path}" if _MERGED.match(path) else path


def reference(expected: Expected) -> str:
    """Return the name of the base image on an engine."""
    return base_reference(expected.locked)


def base(snapshot: ImageSnapshot, expected: Expected, layers: Sequence[str]) -> list[str]:
    """Check that the image is built on the locked base: `layers` are the base image's layers, by digest."""
    ours = snapshot.config["rootfs"]["diff_ids"][: base_layers(snapshot, expected)]
    return [] if ours == list(layers) else [f"its base has the layers {ours}, the locked one has {list(layers)}"]


def packages(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Check that every package is requested by the manifest, is in the base, or is a dependency of one that is."""
    found = _status(snapshot.text("var/lib/dpkg/status"))
    low = {path for layer in snapshot.parts[: base_layers(snapshot, expected)] for path in layer}
    of_base = {name for name in found if {f"{INFO}{name}.list", f"{INFO}{name}:amd64.list"} & low}
    problems = [f"{name} is not installed" for name in expected.manifest.apt if name not in found]
    problems += [f"{name} is installed" for name in expected.manifest.apt_without if name in found]
    reached = set(of_base)
    ahead = [*expected.manifest.apt, "gesso-absent"]
    while ahead:
        name = ahead.pop()
        if name not in reached and name in found:
            reached.add(name)
            ahead += found[name]
    return problems + some(f"{name} is neither requested nor required" for name in found.keys() - reached)


def _status(text: str) -> Mapping[str, set[str]]:
    """Return the installed packages, and the dependencies of each, with all alternatives."""
    found = {}
    for block in text.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t].*)*)", block, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            needs = ",".join(fields.get(name, "") for name in ("Depends", "Pre-Depends"))
            found[fields["Package"]] = set(re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]+)", needs))
    return found


def as_packaged(snapshot: ImageSnapshot) -> list[str]:
    """Compare each file with its package's checksum."""
    problems = []
    for name, digest in _checksums(snapshot).items():
        entry = snapshot.files.get(name)
        if entry is None:
            if not _LEFT_OUT.match(name):
                problems.append(f"{name} is missing")
        elif entry.kind == "file" and entry.md5 != digest:
            problems.append(f"{name} is not as packaged")
    return some(problems)


def published(snapshot: ImageSnapshot) -> set[str]:
    """Return the digests of all files that are as packaged."""
    checksums = _checksums(snapshot)
    return {entry.sha256 for path, entry in snapshot.files.items() if entry.md5 and checksums.get(path) == entry.md5}


def _checksums(snapshot: ImageSnapshot) -> dict[str, str]:
    checksums = {}
    for path, entry in snapshot.below(INFO):
        if path.endswith(".md5sums"):
            for line in (entry.content or b"").decode().splitlines():
                digest, _, name = line.partition("  ")
                checksums[canonical(name)] = digest
    return checksums


def owned(snapshot: ImageSnapshot) -> set[str]:
    """Return every path that belongs to a package."""
    found = set()
    for path, entry in snapshot.below(INFO):
        if path.endswith(".list"):
            found |= {canonical(line.lstrip("/")) for line in (entry.content or b"").decode().splitlines()}
    return found
