"""A wheel unpacked by our own hands: the last resort where pip itself is broken."""

from __future__ import annotations

import base64
import hashlib
import io
import stat
import zipfile
import zlib
from typing import TYPE_CHECKING

from gesso.runtime import atomic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.runtime.layout import Layout

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
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        return False
    return True


def is_damaged(wheel: Path) -> bool:
    """Tell, by its own check sums, whether something in it changed; what is no wheel at all is for pip to say."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.testzip() is not None
    except (zipfile.BadZipFile, OSError):
        return False
    except (zlib.error, EOFError, NotImplementedError, ValueError):
        return True


def make_way(wheel: Path, layout: Layout) -> None:
    """Move aside what an installer would write through, or stop at: links, and whatever is no file or no folder.

    Raises CheckError where that cannot be done.
    """
    site, aside = layout.site_packages, layout.state / "replaced" / "python"
    try:
        with zipfile.ZipFile(wheel) as archive:
            files = {name for name in archive.namelist() if not name.endswith("/") and _plain(name)}
    except (OSError, zipfile.BadZipFile):
        return  # whoever installs it says so
    folders = {"/".join(name.split("/")[:count]) for name in files for count in range(1, name.count("/") + 1)}
    for name in [*sorted(folders), *sorted(files)]:
        path = site / name
        try:
            mode = path.lstat().st_mode
            if not (stat.S_ISDIR(mode) if name in folders else stat.S_ISREG(mode)):
                atomic.clear(path, aside, name)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise atomic.refused(error, path) from None


def _plain(name: str) -> bool:
    parts = name.split("/")
    return not name.startswith("/") and ".." not in parts and not parts[0].endswith(".data")


def _put(path: Path, read: Callable[[int], bytes], *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, read, executable=executable)
    atomic.forget_bytecode(path)
