"""The image's own copies of what was built in: opened only where they are what the record says."""

from __future__ import annotations

import hashlib
import lzma
import tarfile
from typing import TYPE_CHECKING

from gesso.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gesso.runtime.layout import Layout, Spare

_NEXT = "start a fresh instance of this image"


def members(layout: Layout, spare: Spare) -> Iterator[tuple[tarfile.TarInfo, Callable[[int], bytes]]]:
    """Give every file and link of an archive, and what reads on in its content; one after the other.

    Raises CheckError where the archive is gone, or is not what the image was made with.
    """
    path = layout.spare / f"{spare.name}.tar.xz"
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != spare.sha256:
                raise CheckError(f"{path}: is not what the image was made with: nothing is restored from it", _NEXT)
            file.seek(0)
            with lzma.open(file) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
                for member in archive:
                    if member.isdir():
                        continue
                    if member.name.startswith("/") or ".." in member.name.split("/"):
                        raise CheckError(f"{path}: has {member.name} in it", _NEXT)
                    content = archive.extractfile(member) if member.isreg() else None
                    yield member, (content.read if content is not None else _nothing)
    except OSError as error:
        raise CheckError(f"{path}: {error.strerror or error}", _NEXT) from None
    except (lzma.LZMAError, EOFError, tarfile.TarError) as error:
        raise CheckError(f"{path}: {error}", _NEXT) from None


def _nothing(_: int) -> bytes:
    return b""
