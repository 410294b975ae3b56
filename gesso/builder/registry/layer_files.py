"""Read a small file from an image in a registry, by downloading its small layers only."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

from gesso.errors import VerifyError

if TYPE_CHECKING:
    from gesso.builder.registry.client import Registry
    from gesso.builder.registry.remote_image import RemoteImage

RECORD = "/opt/gesso/build.json"
PINS = "/opt/gesso/requirements.txt"
_MAX_LAYER = 4 << 20  # bytes of a compressed layer: those of gesso's own files have a few hundred kB
_MAX_UNPACKED = 64 << 20  # bytes


def read(registry: Registry, image: RemoteImage, path: str) -> bytes:
    """Return a file's content from the topmost layer that has it.

    Raises VerifyError where no small layer has it, and PublishError.
    """
    name = path.lstrip("/")
    for layer in reversed(image.layers):
        if layer.size <= _MAX_LAYER:
            found = find(registry.blob(image.reference, layer.digest, _MAX_LAYER), name)
            if found is not None:
                return found
    raise VerifyError(f"{image.reference}: has no {path}", "use an image made by gesso")


def record(registry: Registry, image: RemoteImage) -> dict[str, Any]:
    """Return an image's build.json.

    Raises VerifyError where it has none.
    """
    try:
        found = json.loads(read(registry, image, RECORD))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise VerifyError(f"{image.reference}: {RECORD} is not a gesso record", "use an image made by gesso")
    return found


def find(layer: bytes, name: str) -> bytes | None:
    """Return a regular file's content from a layer, gzipped or not; None where it has no such file. Pure."""
    with tarfile.open(fileobj=io.BytesIO(_unpacked(layer))) as archive:
        for member in archive:
            if member.name.lstrip("./") == name and member.isfile():
                file = archive.extractfile(member)
                return file.read() if file is not None else None
    return None


def _unpacked(layer: bytes) -> bytes:
    """Unpack up to a limit: the image may be malicious."""
    if layer[:2] != b"\x1f\x8b":
        return layer
    unpacking = zlib.decompressobj(wbits=31)
    try:
        found = unpacking.decompress(layer, _MAX_UNPACKED)
    except zlib.error as error:
        raise VerifyError(f"a layer is damaged: {error}", "push the image again") from None
    if unpacking.unconsumed_tail:
        raise VerifyError(f"a layer unpacks to more than {_MAX_UNPACKED} bytes", "do not trust this image")
    return found
