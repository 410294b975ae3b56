"""Read the contents of an image: its record, its Python lock, dpkg's status, gesso's own Python."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from gesso.builder.evidence import dpkg
from gesso.builder.lock.python_pins import read_pins
from gesso.builder.registry import local_image
from gesso.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import docker

    from gesso.builder.evidence.dpkg import Package
    from gesso.builder.registry.local_image import LocalImage

RECORD = "/opt/gesso/build.json"
PINS = "/opt/gesso/requirements.txt"
_SITE_PACKAGES = "/opt/gesso/venv/lib/python{}/site-packages/"
_DIST = re.compile(r"/([^/]+)-([^-/]+)\.dist-info\Z")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Distribution:
    """A Python distribution; `hashes`: the sha256 of its locked files, one of which is installed."""

    name: str
    version: str
    hashes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contents:
    """The contents of an image; `record` is its build.json, `own_python` the distributions that gesso itself uses."""

    record: Mapping[str, Any]
    python: tuple[Distribution, ...]
    own_python: tuple[Distribution, ...]
    debian: tuple[Package, ...]
    codename: str


def read(client: docker.DockerClient, image: LocalImage) -> Contents:
    """Read an image's contents from the engine, without starting it.

    Raises BuildError where it is not a gesso image.
    """
    files = local_image.files(client, image.image_id, (RECORD, PINS, dpkg.STATUS, dpkg.RELEASE))
    record = local_image.record(files, RECORD)
    try:
        folder = _SITE_PACKAGES.format(record["python"]["version"])
    except (KeyError, TypeError):
        raise BuildError(f"{RECORD}: not the record of a gesso image", "build it with `invoke build`") from None
    return Contents(
        record,
        distributions(files[PINS].decode()),
        own_python(local_image.files(client, image.image_id, (folder,))),
        dpkg.installed(files[dpkg.STATUS].decode()),
        dpkg.codename(files[dpkg.RELEASE].decode()),
    )


def distributions(lock: str) -> tuple[Distribution, ...]:
    """Parse an image's Python lock. Pure."""
    return tuple(Distribution(pin.name, pin.version, tuple(_HASH.findall(pin.text))) for pin in read_pins(lock))


def own_python(paths: Iterable[str]) -> tuple[Distribution, ...]:
    """Return the distributions whose metadata folders are among these paths. Pure."""
    found = {canonicalize_name(m[1]): m[2] for path in paths if (m := _DIST.search(path.removesuffix("/")))}
    return tuple(Distribution(name, version) for name, version in sorted(found.items()))
