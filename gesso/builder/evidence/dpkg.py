"""Parse dpkg's status file: the Debian packages of an image. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

STATUS = "/var/lib/dpkg/status"
RELEASE = "/usr/lib/os-release"
_FIELD = re.compile(r"^([A-Za-z-]+): *(.*)$", re.MULTILINE)
_SETTING = re.compile(r"^(\w+)=\"?([^\"\n]*)\"?$", re.MULTILINE)


@dataclass(frozen=True)
class Package:
    """An installed Debian package; `source`: its source package, where the name differs."""

    name: str
    version: str
    architecture: str
    source: str = ""


def installed(status: str) -> tuple[Package, ...]:
    """Parse dpkg's status file to the installed packages, sorted; packages in state config-files are not installed."""
    found = []
    for block in status.split("\n\n"):
        fields = dict(_FIELD.findall(block))
        if fields.get("Package") and fields.get("Status", "").endswith(" installed"):
            source = fields.get("Source", "").split(" ")[0]
            found.append(Package(fields["Package"], fields.get("Version", ""), fields.get("Architecture", ""), source))
    return tuple(sorted(found, key=lambda package: (package.name, package.architecture)))


def codename(release: str) -> str:
    """Return the release's codename from os-release: trixie."""
    return next((value for name, value in _SETTING.findall(release) if name == "VERSION_CODENAME"), "")
