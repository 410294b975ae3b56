"""Which Debian packages are in an image, by dpkg's own book. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

STATUS = "/var/lib/dpkg/status"
RELEASE = "/usr/lib/os-release"
_FIELD = re.compile(r"^([A-Za-z-]+): *(.*)$", re.MULTILINE)
_SETTING = re.compile(r"^(\w+)=\"?([^\"\n]*)\"?$", re.MULTILINE)


@dataclass(frozen=True)
class Package:
    """A Debian package that is installed; `source` is the source package it was built from, where that differs."""

    name: str
    version: str
    architecture: str
    source: str = ""


def installed(status: str) -> tuple[Package, ...]:
    """Read dpkg's status file: what is installed, by name; what was removed and left its settings is not."""
    found = []
    for block in status.split("\n\n"):
        fields = dict(_FIELD.findall(block))
        if fields.get("Package") and fields.get("Status", "").endswith(" installed"):
            source = fields.get("Source", "").split(" ")[0]
            found.append(Package(fields["Package"], fields.get("Version", ""), fields.get("Architecture", ""), source))
    return tuple(sorted(found, key=lambda package: (package.name, package.architecture)))


def codename(release: str) -> str:
    """Give the name of the distribution's release out of os-release: trixie."""
    return next((value for name, value in _SETTING.findall(release) if name == "VERSION_CODENAME"), "")
