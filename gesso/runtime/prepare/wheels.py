"""Unpack a wheel without pip: the last resort if pip itself is broken."""

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
    """Install a wheel that contains only packages; return False for any other, or if it cannot be read or written.

    RECORD is written last: an interrupted installation has none.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
            record = next((i.filename for i in files if i.filename.endswith(".dist-info/RECORD")), None)
            if record is None or not all(_is_plain(info.filename) for info in files):
                return False
            for info in files:
                if info.filename != record:
                    with archive.open(info) as content:
                        _write(site / info.filename, content.read, executable=bool(info.external_attr >> 16 & 0o100))
            installer = record.replace("RECORD", "INSTALLER")
            _write(site / installer, io.BytesIO(_INSTALLER).read)
            digest = base64.urlsafe_b64encode(hashlib.sha256(_INSTALLER).digest()).rstrip(b"=").decode()
            rows = f"{installer},sha256={digest},{len(_INSTALLER)}\n".encode()
            _write(site / record, io.BytesIO(archive.read(record).rstrip() + b"\n" + rows).read)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        return False
    return True


def is_damaged(wheel: Path) -> bool:
    """Return whether the wheel's checksums fail; a file that is not a wheel is left to pip to report."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.testzip() is not None
    except (zipfile.BadZipFile, OSError):
        return False
    except (zlib.error, EOFError, NotImplementedError, ValueError):
        return True


def clear_targets(wheel: Path, layout: Layout) -> None:
    """Back up and remove links and special files in the target paths: an installer would follow them, or fail.

    Raises CheckError if that fails.
    """
    site, quarantine = layout.site_packages, layout.state / "replaced" / "python"
    try:
        with zipfile.ZipFile(wheel) as archive:
            files = {name for name in archive.namelist() if not name.endswith("/") and _is_plain(name)}
    except (OSError, zipfile.BadZipFile):
        return  # the installer reports it
    folders = {"/".join(name.split("/")[:count]) for name in files for count in range(1, name.count("/") + 1)}
    for name in [*sorted(folders), *sorted(files)]:
        path = site / name
        try:
            mode = path.lstat().st_mode
            if not (stat.S_ISDIR(mode) if name in folders else stat.S_ISREG(mode)):
                atomic.clear(path, quarantine, name)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise atomic.repair_error(error, path) from None


def _is_plain(name: str) -> bool:
    parts = name.split("/")
    return not name.startswith("/") and ".." not in parts and not parts[0].endswith(".data")


def _write(path: Path, read: Callable[[int], bytes], *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, read, executable=executable)
    atomic.remove_bytecode(path)
