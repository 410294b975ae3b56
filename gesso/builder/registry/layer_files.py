"""A small file out of an image in a registry: only the layers that may hold it are read, and only small ones."""

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
_LARGEST = 4 << 20  # bytes of a layer as it travels: those that gesso writes for its own files are some hundred kB
_UNPACKED = 64 << 20  # bytes


def read(registry: Registry, image: RemoteImage, path: str) -> bytes:
    """Give a file as the topmost layer that has it does.

    Raises VerifyError where no small layer has it, and PublishError.
    """
    name = path.lstrip("/")
    for layer in reversed(image.layers):
        if layer.size <= _LARGEST:
            found = find(registry.blob(image.reference, layer.digest, _LARGEST), name)
            if found is not None:
                return found
    raise VerifyError(f"{image.reference}: has no {path}", "name an image that gesso made")


def record(registry: Registry, image: RemoteImage) -> dict[str, Any]:
    """Give an image's own record of what it is made of.

    Raises VerifyError where it has none.
    """
    try:
        found = json.loads(read(registry, image, RECORD))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise VerifyError(f"{image.reference}: {RECORD} is no record", "name an image that gesso made")
    return found


def find(layer: bytes, name: str) -> bytes | None:
    """Give a regular file out of a layer, gzipped or not; None where it has none of that name. Pure."""
    with tarfile.open(fileobj=io.BytesIO(_unpacked(layer))) as archive:
        for member in archive:
            if member.name.lstrip("./") == name and member.isfile():
                file = archive.extractfile(member)
                return file.read() if file is not None else None
    return None


def _unpacked(layer: bytes) -> bytes:
    """Unpack no more than a bounded amount: whoever made the image may have meant ill."""
    if layer[:2] != b"\x1f\x8b":
        return layer
    unpacking = zlib.decompressobj(wbits=31)
    try:
        found = unpacking.decompress(layer, _UNPACKED)
    except zlib.error as error:
        raise VerifyError(f"a layer is damaged: {error}", "push the image again") from None
    if unpacking.unconsumed_tail:
        raise VerifyError(f"a layer unpacks to more than {_UNPACKED} bytes", "do not trust this image")
    return found
