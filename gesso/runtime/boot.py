"""The boot, idempotent: workspace, gate, then everything under supervision. A second start does nothing.

The guard is not part of it: it runs before every start of ComfyUI, and when it refuses, the page must be up to say why.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import proc
from gesso.errors import CheckError
from gesso.runtime import locks
from gesso.runtime.gate import caddy
from gesso.runtime.prepare import environment, orphans, workspace
from gesso.runtime.services.supervisord import unset_markers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.runtime.layout import Layout, Record

LAUNCHED_BY_VAST = Path("/.launch")  # exists in ssh and jupyter mode only, where this script is `onstart`
_LOCK_FD = 3  # supervisord keeps inherited descriptors below 5 and passes none on: it holds the lock


def boot(layout: Layout, record: Record, env: Mapping[str, str], on_progress: Callable[[str], None]) -> int:
    """Prepare the instance, then become its supervisor (or leave one running, where Vast's own init is in charge).

    Returns 0 when a supervisor is already running. Raises CheckError.
    """
    layout.run.mkdir(parents=True, exist_ok=True)
    layout.logs.mkdir(parents=True, exist_ok=True)
    if not _lock(layout.run / "boot.lock"):
        on_progress("gesso is already running; nothing to do")
        return 0
    on_progress(f"gesso: {record.title}{' -- a TRIAL image: no real ComfyUI, no real models' * record.trial}")
    orphans.end_orphans(layout, on_progress)
    workspace.lay_out(layout, record, on_progress)
    caddy.configure(layout, env, on_progress=on_progress)
    supervisord = layout.gesso / "venv" / "bin" / "supervisord"
    background = LAUNCHED_BY_VAST.exists()
    if background:
        environment.write(env, on_progress)
    argv = [str(supervisord), "--configuration", str(layout.gesso / "etc" / "supervisord.conf")]
    on_progress(f"gesso: starting ComfyUI behind the gate on port 8188{' in the background' * background}")
    _wake_supervisord(layout.run / "supervisor.sock")
    return os.execve(argv[0], argv if background else [*argv, "--nodaemon"], dict(env))  # noqa: S606


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
    proc.detach([*unset_markers(env), str(layout.gesso / "venv" / "bin" / "gesso"), "boot"], layout.logs / "boot.log")
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
