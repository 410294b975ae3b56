"""Debian's part: the locked base, the manifest's packages and what they need, each file as its package says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gesso.builder.image.build import base_reference

from .config import base_layers
from .expected import some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .expected import Expected
    from .photograph import Photograph

INFO = "var/lib/dpkg/info/"
_MERGED = re.compile(r"(bin|sbin|lib|lib32|lib64|libx32)/")
_LEFT_OUT = re.compile(r"usr/share/(doc|man|locale|info|lintian|bug)/")  # a slim base is without them


def canonical(path: str) -> str:
    """Give where a path of a package lies: Debian has /bin, /lib and /sbin in /usr."""
    return f"usr/{path}" if _MERGED.match(path) else path


def reference(expected: Expected) -> str:
    """Give the name of the base image on an engine."""
    return base_reference(expected.locked)


def base(photo: Photograph, expected: Expected, layers: Sequence[str]) -> list[str]:
    """See that the image stands on the locked base: `layers` are the base image's own layers, by digest."""
    ours = photo.config["rootfs"]["diff_ids"][: base_layers(photo, expected)]
    return [] if ours == list(layers) else [f"its base has the layers {ours}, the locked one has {list(layers)}"]


def packages(photo: Photograph, expected: Expected) -> list[str]:
    """See that every package was asked for, is in the base, or is needed by one that is."""
    found = _status(photo.text("var/lib/dpkg/status"))
    low = {path for layer in photo.parts[: base_layers(photo, expected)] for path in layer}
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
    return problems + some(f"{name} was not asked for" for name in found.keys() - reached)


def _status(text: str) -> Mapping[str, set[str]]:
    """Give the installed packages, and what each needs or recommends, or what would do."""
    found = {}
    for block in text.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t].*)*)", block, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            needs = ",".join(fields.get(name, "") for name in ("Depends", "Pre-Depends"))
            found[fields["Package"]] = set(re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]+)", needs))
    return found


def as_packaged(photo: Photograph) -> list[str]:
    """Compare each file with the checksum that its package gives."""
    problems = []
    for name, digest in _checksums(photo).items():
        there = photo.files.get(name)
        if there is None:
            if not _LEFT_OUT.match(name):
                problems.append(f"{name} is missing")
        elif there.kind == "file" and there.md5 != digest:
            problems.append(f"{name} is not as packaged")
    return some(problems)


def published(photo: Photograph) -> set[str]:
    """Give the digests of all files that are as their packages have them."""
    wanted = _checksums(photo)
    return {entry.sha256 for path, entry in photo.files.items() if entry.md5 and wanted.get(path) == entry.md5}


def _checksums(photo: Photograph) -> dict[str, str]:
    wanted = {}
    for path, entry in photo.below(INFO):
        if path.endswith(".md5sums"):
            for line in (entry.content or b"").decode().splitlines():
                digest, _, name = line.partition("  ")
                wanted[canonical(name)] = digest
    return wanted


def owned(photo: Photograph) -> set[str]:
    """Give every path that belongs to a package."""
    found = set()
    for path, entry in photo.below(INFO):
        if path.endswith(".list"):
            found |= {canonical(line.lstrip("/")) for line in (entry.content or b"").decode().splitlines()}
    return found
