"""The builder's store of model files, by the SHA-256 of what they hold: one for all architectures and projects.

The same fetch fills it, with the same partial files, receipts and locks; only the paths differ.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from gesso.errors import BuildError
from gesso.models import receipts
from gesso.models.folder import Folder
from gesso.models.local_disk import disk_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gesso.manifest.schema import Model


def store(root: Path, models: Iterable[Model]) -> Folder:
    """Return the store below `root` as a models folder that keeps `models` by their hashes.

    The suffix stays: by it a file is judged.
    """
    return Folder(root, root / ".gesso", {model.name: place_of(model) for model in models})


def place_of(model: Model) -> str:
    """Return a model's path in the store."""
    return f"sha256/{model.sha256[:2]}/{model.sha256}{PurePosixPath(model.name).suffix.lower()}"


def link_models(found: Folder, models: Iterable[Model], target: Path, *, times: int) -> Mapping[str, int]:
    """Put verified models under their names below `target`, as hard links where that can be; return their sizes.

    All get one modification time, `times` (seconds since 1970), so that the layer is the same bytes for everybody.
    Raises BuildError where a model is not in the store, verified; LocalError.
    """
    sizes: dict[str, int] = {}
    for model in models:
        source, path = found.path(model.name), target / model.name
        if not receipts.is_valid(found, model.name, model.sha256):
            raise BuildError(f"{model.name}: not in the store, or changed since it was verified", "run this again")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _link(source, path)
            path.chmod(0o644)
            os.utime(path, (times, times))
            stat = source.stat()
        except OSError as error:
            raise disk_error(error, str(path)) from None
        # A link and a new time change the file's stat, not its content: renew the receipt.
        receipts.write(found, model.name, model.sha256, stat)
        sizes[model.name] = stat.st_size
    return sizes


def _link(source: Path, path: Path) -> None:
    try:
        path.hardlink_to(source)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}:
            raise
        shutil.copyfile(source, path)
