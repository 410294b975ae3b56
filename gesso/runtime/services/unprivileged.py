"""Run ComfyUI and its node packs as a user without privileges, also where the container starts as root (docs/adr/0053).

Then a node pack cannot read the token, gesso's files and other processes, or change /opt. Nothing below a folder that
ComfyUI can write is trusted here: links in it are never followed, and only root's own files are given away.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import proc
from gesso.errors import CheckError, GessoError
from gesso.runtime.layout import COMFY_USER
from gesso.runtime.prepare.node_packs import runtime_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gesso.runtime.layout import Layout, Record

USER = "comfyui"
SETTING = "GESSO_COMFY_USER"
_ROOT, _OWN = "root", ("", USER)
_PROBE_TIMEOUT = 5.0
_CAP_KILL = 5  # without it the supervisor could not stop ComfyUI


def switch(layout: Layout, record: Record, env: Mapping[str, str], on_progress: Callable[[str], None]) -> list[str]:
    """Prepare everything, and return the command that ComfyUI's own is appended to; empty if its user stays the same.

    Raises CheckError for an invalid setting.
    """
    chosen = env.get(SETTING, "")
    if chosen not in {_ROOT, *_OWN}:
        raise CheckError(f"{SETTING}: {chosen[:40]!r} is neither {USER} nor {_ROOT}", "correct it, or leave it out")
    if os.geteuid() != 0:
        return []
    if chosen == _ROOT:
        on_progress(f"comfyui: {SETTING}={_ROOT}: node packs can read the token and change everything")
        return []
    if reason := _obstacle(layout, record):
        on_progress(f"comfyui: runs as root, and node packs can read the token: {reason}")
        return []
    return _command()


def environment(layout: Layout, env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for that user."""
    return {**env, "HOME": str(layout.home), "USER": USER, "LOGNAME": USER}


def _command() -> list[str]:
    return [
        "setpriv", f"--reuid={COMFY_USER}", f"--regid={COMFY_USER}", "--clear-groups", "--no-new-privs",
        "--inh-caps=-all", "--bounding-set=-all",
    ]  # fmt: skip


def _obstacle(layout: Layout, record: Record) -> str:
    """Hand over the folders, and return what prevents the other user; empty if nothing does."""
    if closed := next((path for path in _gpu_devices() if not _is_open(path.stat().st_mode)), None):
        return f"{closed} is open only to root"
    try:
        probe = proc.run([*_command(), "true"], timeout=_PROBE_TIMEOUT)
    except (GessoError, OSError) as error:
        return str(error)
    if not probe.ok or not _may_kill():
        return f"this container cannot change users ({probe.tail(1) or 'no CAP_KILL'})"
    try:
        hand_over(layout, record)
    except OSError as error:
        return f"{error.filename or layout.workspace}: {error.strerror}"
    for folder in _own_folders(layout):
        found = folder.stat()
        if found.st_uid != COMFY_USER and not found.st_mode & stat.S_IWOTH:
            return f"{folder} belongs to user {found.st_uid}; start the container with `--user {found.st_uid}`"
    return ""


def hand_over(layout: Layout, record: Record, user: int = COMFY_USER) -> None:
    """Give root's files in ComfyUI's own folders to its user, and let it add files to the models. Raises OSError."""
    for folder in _own_folders(layout):
        folder.mkdir(mode=0o755, exist_ok=True)
        _give(folder, user)
    for folder in (layout.gesso / "cache", *runtime_folders(layout, record)):  # read-only, or not there: no harm
        with contextlib.suppress(OSError):
            if folder.parent != layout.gesso:
                folder.mkdir(exist_ok=True)
            _give(folder, user)
    with contextlib.suppress(OSError):
        _keep_entries(layout.workspace)
    for folder in (layout.models, *_below(layout.models)):
        with contextlib.suppress(OSError):
            _share(folder, user)


def _own_folders(layout: Layout) -> tuple[Path, ...]:
    own = (layout.user, layout.workspace / "input", layout.workspace / "output")
    return *own, layout.home, layout.comfyui_temporary


def _below(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from (path for path in folder.iterdir() if not path.name.startswith("."))


def _real(folder: Path) -> Path | None:
    """Return the folder that a link of root leads to, the folder itself, or None for anybody else's link."""
    if not folder.is_symlink():
        return folder
    return folder.resolve() if folder.lstat().st_uid == 0 else None


def _give(folder: Path, user: int) -> None:
    """Give root's files below a folder to a user. Hard links are left: they may lead to a file elsewhere."""
    real = _real(folder)
    if real is None:
        return
    for _, _, files, handle in os.fwalk(real, follow_symlinks=False, onerror=_raise):
        if os.fstat(handle).st_uid == 0:
            os.fchown(handle, user, user)
        for name in files:
            found = os.stat(name, dir_fd=handle, follow_symlinks=False)
            if found.st_uid == 0 and found.st_nlink == 1:
                os.chown(name, user, user, dir_fd=handle, follow_symlinks=False)


def _raise(error: OSError) -> None:
    raise error


def _share(folder: Path, user: int) -> None:
    """Let a user add files to root's folder; with the sticky bit it cannot touch those of others: verified models."""
    real = _real(folder)
    if real is None:
        return
    handle = os.open(real, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        if found.st_uid == 0 and found.st_gid != user:
            os.fchown(handle, -1, user)
            os.fchmod(handle, stat.S_IMODE(found.st_mode) | stat.S_ISVTX | stat.S_IRWXG)
    finally:
        os.close(handle)


def _keep_entries(workspace: Path) -> None:
    """Set the sticky bit where everybody can write: nobody then replaces gesso's own folder in the workspace."""
    mode = stat.S_IMODE(workspace.stat().st_mode)
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        workspace.chmod(mode | stat.S_ISVTX)


def _gpu_devices(devices: Path = Path("/dev")) -> list[Path]:
    return [path for path in sorted(devices.glob("nvidia*")) if path.is_char_device()]


def _is_open(mode: int) -> bool:
    return mode & (stat.S_IROTH | stat.S_IWOTH) == stat.S_IROTH | stat.S_IWOTH


def _may_kill(status: Path = Path("/proc/self/status")) -> bool:
    lines: Sequence[str] = status.read_text(encoding="ascii", errors="replace").splitlines()
    effective = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> _CAP_KILL & 1)
