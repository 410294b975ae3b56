"""The boot, idempotent: workspace, gate, then everything under supervision. A second start does nothing.

It hands no secret on: the supervisor and the programs start without them (`variables`).

The guard is not part of it: it runs before every start of ComfyUI, and when it refuses, the page must be up to say why.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import proc
from gesso.errors import CheckError
from gesso.runtime import locks, variables
from gesso.runtime.gate import caddy
from gesso.runtime.prepare import environment, orphans, workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.runtime.layout import Layout, Record

LAUNCHED_BY_VAST = Path("/.launch")  # exists in ssh and jupyter mode only, where this script is `onstart`
_OPEN_FILES, _FEW_OPEN_FILES = 65536, 4096  # at a time; each client, model and node pack takes some
_LOCK_FD = 3  # supervisord keeps inherited descriptors below 5 and passes none on: it holds the lock


def boot(layout: Layout, record: Record, env: Mapping[str, str], on_progress: Callable[[str], None]) -> int:
    """Prepare the instance, then become its supervisor (or leave one running, where Vast's own init is in charge).

    Returns 0 when a supervisor is already running. Raises CheckError.
    """
    _make_folders(layout)
    if not _lock(layout.run / "boot.lock"):
        on_progress("gesso is already running; nothing to do")
        return 0
    on_progress(f"gesso: {record.title}{' -- a TRIAL image: no real ComfyUI, no real models' * record.trial}")
    orphans.end_orphans(layout, on_progress)
    raise_open_files(on_progress)
    workspace.lay_out(layout, record, on_progress)
    caddy.configure(layout, env, on_progress=on_progress)
    environ = variables.completed(layout, env)
    _store(layout, environ)
    background = LAUNCHED_BY_VAST.exists()
    if background:
        environment.write(env, on_progress)
    argv = _supervisord(layout, background=background)
    on_progress(f"gesso: starting ComfyUI behind the gate on port 8188{' in the background' * background}")
    _wake_supervisord(layout.run / "supervisor.sock")
    return os.execve(argv[0], argv, variables.public(environ))  # noqa: S606


def raise_open_files(on_progress: Callable[[str], None]) -> None:
    """Allow this process and its children as many open files as the container may have; report a low limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < _FEW_OPEN_FILES:
        on_progress(
            f"gesso: only {wanted} files may be open at a time, so that ComfyUI or the gate may fail; start the "
            f"container with `--ulimit nofile={_OPEN_FILES}`"
        )


def _make_folders(layout: Layout) -> None:
    """Create the run and log folders; only this user may write there, or list the run folder. Raises CheckError."""
    for folder, mode in ((layout.run, 0o711), (layout.logs, 0o755)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if folder.stat().st_uid == os.geteuid():  # the image's are open to every user
                folder.chmod(mode)
        except OSError as error:
            raise CheckError(
                f"{folder}: {error.strerror} (user {os.geteuid()})",
                "let it be written: `--tmpfs /run`; in Kubernetes, an emptyDir at /run",
            ) from None


def _store(layout: Layout, env: Mapping[str, str]) -> None:
    try:
        variables.store(layout, env)
    except OSError as error:
        raise CheckError(f"{layout.environment}: {error.strerror}", "make room on the disk") from None


def _supervisord(layout: Layout, *, background: bool) -> list[str]:
    program, conf = layout.gesso / "venv" / "bin" / "supervisord", layout.gesso / "etc" / "supervisord.conf"
    as_root = ["--user", "root"] if os.geteuid() == 0 else []  # it warns about root otherwise; others cannot change it
    return [str(program), "--configuration", str(conf), *as_root, *["--nodaemon"] * (not background)]


def _wake_supervisord(path: Path, timeout: float = 5.0) -> None:
    """Fork a child that connects to supervisord once: its first wait for a connection takes a second otherwise."""
    path.unlink(missing_ok=True)
    if os.fork():
        return
    try:
        os.closerange(3, 64)  # the child must not hold the lock
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                break
            time.sleep(0.01)
    finally:
        os._exit(0)


def is_running(layout: Layout) -> bool:
    """Return whether a supervisor is alive: it holds the lock for its lifetime."""
    return locks.is_held(layout.run / "boot.lock")


def revive(layout: Layout, env: Mapping[str, str], on_progress: Callable[[str], None]) -> None:
    """Restart everything if the supervisor is gone: it can be killed where it is not the first process."""
    if is_running(layout):
        return
    command = [str(layout.gesso / "venv" / "bin" / "gesso"), "boot"]
    proc.detach(command, layout.logs / "boot.log", env=variables.for_boot(env), replace_env=True)
    with contextlib.suppress(OSError):  # our output went through the supervisor
        on_progress("gesso: the supervisor is gone; restarting everything")


def _lock(path: Path) -> bool:
    """Take the lock for the supervisor's lifetime; return False if it is already held."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    except OSError as error:
        raise CheckError(f"{path}: {error.strerror}", "start a fresh instance") from None
    if handle != _LOCK_FD:
        os.dup2(handle, _LOCK_FD, inheritable=True)
        os.close(handle)
    else:
        os.set_inheritable(handle, True)
    return True
