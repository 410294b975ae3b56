"""Lay out /workspace, which may be an empty volume, a used one, or a person's own. Never destroys existing files."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.errors import CheckError
from gesso.manifest.folders import FOLDERS
from gesso.models.local_disk import dangling_link, describe, remedy
from gesso.runtime import atomic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record

_FOLDERS = ("input", "output", "user/default/workflows", "gesso", "ComfyUI/workflows")
# ComfyUI and the packs list a folder only if it exists when they start.
_EXTRA_MODEL_FOLDERS = ("configs", "embeddings", "hypernetworks", "vae_approx")


def lay_out(layout: Layout, record: Record, on_progress: Callable[[str], None]) -> None:
    """Create the folders, link /workspace/ComfyUI to them, and install the workflows in both places.

    Idempotent. Raises CheckError if the workspace is not writable.
    """
    try:
        restore(layout, record, on_progress)
        _require_writable(layout, on_progress)
        for copy in workflow_copies(layout, record):
            install_workflow(copy, layout, on_progress)
    except OSError as error:
        if (link := dangling_link(error)) is not None:
            raise CheckError(describe(link), f"{remedy(link)}, then restart") from None
        raise _unwritable(error, layout) from None


def _require_writable(layout: Layout, on_progress: Callable[[str], None]) -> None:
    """Raise OSError for what must be writable and is not, as another user may have left it; report the rest."""
    token = layout.state / "token"
    for path in (layout.state, layout.user, layout.user / "default" / "workflows", *[token] * token.exists()):
        if not os.access(path, os.R_OK | os.W_OK):
            number = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(number, os.strerror(number), str(path))
    for path in (layout.workspace / "input", layout.workspace / "output"):
        if not os.access(path, os.W_OK):
            on_progress(f"workspace: {path}: user {os.geteuid()} cannot write there; ComfyUI can only read it")


def _unwritable(error: OSError, layout: Layout) -> CheckError:
    """Return an error that names the folder and what to change about the start of the container."""
    path, user = error.filename or layout.workspace, os.geteuid()
    if error.errno in {errno.EACCES, errno.EPERM}:
        return CheckError(
            f"{path}: user {user} may not write there ({error.strerror})",
            f"give the volume at {layout.workspace} to user {user} (in Kubernetes: fsGroup), or start the container as "
            "its owner: `--user`",
        )
    if error.errno == errno.EROFS:
        return CheckError(
            f"{path}: {error.strerror}",
            f"mount a writable volume there: `-v DATA:{layout.workspace}`, or `--tmpfs {layout.workspace}`",
        )
    return CheckError(
        f"{path}: {error.strerror}", f"mount a writable volume with free space at {layout.workspace}, then restart"
    )


def restore(layout: Layout, record: Record, on_progress: Callable[[str], None]) -> None:
    """Create the missing folders and links. Raises OSError."""
    for folder in _FOLDERS:
        (layout.workspace / folder).mkdir(parents=True, exist_ok=True)
    for name in _model_folders():
        _make_if_writable(layout.models / name, on_progress)
    for name in record.baked:
        _link_baked(layout.baked / name, layout.models / name, layout, on_progress)
    for link, target in _links(layout).items():
        if not link.exists() and not link.is_symlink():
            link.symlink_to(target)


def missing(layout: Layout, record: Record) -> list[Path]:
    """Return the missing folders and links, as far as they can be created."""
    found = [layout.workspace / folder for folder in _FOLDERS if not (layout.workspace / folder).is_dir()]
    if os.access(layout.models if layout.models.is_dir() else layout.workspace, os.W_OK):
        found += [layout.models / name for name in _model_folders() if not (layout.models / name).is_dir()]
        found += [path for name in record.baked if not os.path.lexists(path := layout.models / name)]
    return [*found, *(link for link in _links(layout) if not os.path.lexists(link))]


def _model_folders() -> list[str]:
    return sorted({name for names in FOLDERS.values() for name in names} | set(_EXTRA_MODEL_FOLDERS))


def _make_if_writable(folder: Path, on_progress: Callable[[str], None]) -> None:
    """Create a models folder; a read-only mount is fine: ComfyUI lists what it contains."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        link = dangling_link(error)
        on_progress(f"workspace: {folder} not created: {describe(link) if link else error.strerror}")


def _link_baked(source: Path, link: Path, layout: Layout, on_progress: Callable[[str], None]) -> None:
    """Link from the models folder, which may be an empty volume, to a model in the image.

    An existing file stays: the model check verifies it. A link to another image's models is replaced.
    """
    is_ours = link.is_symlink() and link.readlink().is_relative_to(layout.baked)
    if os.path.lexists(link) and not is_ours:
        return
    try:
        if is_ours:
            link.unlink()
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source)
    except OSError as error:
        on_progress(f"workspace: {link} not created: {error.strerror}")


def _links(layout: Layout) -> dict[Path, Path]:
    """Return the links of /workspace/ComfyUI, where people look for everything, with their targets."""
    home = layout.workspace / "ComfyUI"
    return {
        home / "models": layout.models,
        home / "user": layout.user,
        home / "input": layout.workspace / "input",
        home / "output": layout.workspace / "output",
        home / "custom_nodes": layout.comfyui / "custom_nodes",
    }


@dataclass(frozen=True)
class WorkflowCopy:
    """A baked workflow and the path of its copy; `digest` is the SHA-256 of its bytes."""

    source: Path
    digest: str
    target: Path

    def is_current(self) -> bool:
        """Return whether the copy exists and is identical. Raises OSError."""
        return self.target.is_file() and hashlib.sha256(self.target.read_bytes()).hexdigest() == self.digest


def workflow_copies(layout: Layout, record: Record) -> list[WorkflowCopy]:
    """Return the baked workflows with the paths of their copies.

    Both formats go where people look; files that the editor opens also go to the editor's folder.
    """
    found = []
    for name, digest in sorted(record.workflows.items()):
        source = layout.gesso / "workflows" / name
        found.append(WorkflowCopy(source, digest, layout.workspace / "ComfyUI" / "workflows" / name))
        if not name.endswith(".api.json"):
            found.append(WorkflowCopy(source, digest, layout.user / "default" / "workflows" / name))
    return found


def install_workflow(copy: WorkflowCopy, layout: Layout, on_progress: Callable[[str], None]) -> None:
    """Install a copy of a baked workflow; a changed version is backed up first. Raises OSError.

    If the image's own file is damaged, the copy stays unchanged, and `gesso heal` restores both.
    """
    if copy.is_current():
        return
    target = copy.target
    content = copy.source.read_bytes()
    if hashlib.sha256(content).hexdigest() != copy.digest:
        on_progress(
            f"workspace: {copy.source} does not match the lock; {target} was left unchanged; `gesso heal` restores both"
        )
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        backup = free_name(layout.state / "replaced", target)
        if target.is_file() and not target.is_symlink():
            shutil.copy2(target, backup)  # the old file stays until the new one replaces it
        else:
            shutil.move(target, backup)
        on_progress(f"workspace: {target} was changed; your version is now {backup}")
    atomic.write_bytes(target, content)


def free_name(folder: Path, target: Path) -> Path:
    """Return an unused name: two files of one name may be backed up within a second."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{target.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = (f"{stem}{f'-{n}' * (n > 1)}{target.suffix}" for n in itertools.count(1))
    return next(path for name in names if not os.path.lexists(path := folder / name))
