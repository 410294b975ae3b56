"""Read the image's spare archives: copies of what was built in. Their digests are verified first."""

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
    """Yield every file and link of an archive, each with a function that reads its content.

    Raises CheckError where the archive is missing, or differs from the image's record.
    """
    path = layout.spare / f"{spare.name}.tar.xz"
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != spare.sha256:
                raise CheckError(
                    f"{path}: its digest differs from the image's record: nothing is restored from it", _NEXT
                )
            file.seek(0)
            with lzma.open(file) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
                for member in archive:
                    if member.isdir():
                        continue
                    if member.name.startswith("/") or ".." in member.name.split("/"):
                        raise CheckError(f"{path}: contains an unsafe path: {member.name}", _NEXT)
                    content = archive.extractfile(member) if member.isreg() else None
                    yield member, (content.read if content is not None else _nothing)
    except OSError as error:
        raise CheckError(f"{path}: {error.strerror or error}", _NEXT) from None
    except (lzma.LZMAError, EOFError, tarfile.TarError) as error:
        raise CheckError(f"{path}: {error}", _NEXT) from None


def _nothing(_: int) -> bytes:
    return b""
