"""A wheel unpacked by our own hands: the last resort where pip itself is broken."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from typing import TYPE_CHECKING

from gesso.runtime.heal import place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_INSTALLER = b"gesso\n"


def unpack(wheel: Path, site: Path) -> bool:
    """Install a wheel that is nothing but packages; False where it is another kind, or cannot be read or written.

    RECORD comes last: what was cut off in the middle vouches for nothing.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
            record = next((i.filename for i in files if i.filename.endswith(".dist-info/RECORD")), None)
            if record is None or not all(_plain(info.filename) for info in files):
                return False
            for info in files:
                if info.filename != record:
                    with archive.open(info) as content:
                        _put(site / info.filename, content.read, executable=bool(info.external_attr >> 16 & 0o100))
            installer = record.replace("RECORD", "INSTALLER")
            _put(site / installer, io.BytesIO(_INSTALLER).read)
            digest = base64.urlsafe_b64encode(hashlib.sha256(_INSTALLER).digest()).rstrip(b"=").decode()
            rows = f"{installer},sha256={digest},{len(_INSTALLER)}\n".encode()
            _put(site / record, io.BytesIO(archive.read(record).rstrip() + b"\n" + rows).read)
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError):
        return False
    return True


def _plain(name: str) -> bool:
    parts = name.split("/")
    return not name.startswith("/") and ".." not in parts and not parts[0].endswith(".data")


def _put(path: Path, read: Callable[[int], bytes], *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    place.write(path, read, executable=executable)
    place.forget_bytecode(path)
