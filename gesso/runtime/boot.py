"""The boot, idempotent: workspace, gate, then everything under supervision. A second start does nothing.

The guard is not here: it runs before every start of ComfyUI, and where it says no there must be a page that tells why.
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
from gesso.runtime.services.supervisord import unmarked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.runtime.layout import Layout, Record

LAUNCHED_BY_VAST = Path("/.launch")  # there in ssh and jupyter mode only, where this script is `onstart`
_LOCK_FD = 3  # supervisord keeps inherited descriptors below 5, and no child of its gets them: it holds the lock


def boot(layout: Layout, record: Record, env: Mapping[str, str], say: Callable[[str], None]) -> int:
    """Prepare the instance, then become its supervisor (or leave one running, where Vast's own init is in charge).

    Gives 0 where a supervisor runs already. Raises CheckError.
    """
    layout.run.mkdir(parents=True, exist_ok=True)
    layout.logs.mkdir(parents=True, exist_ok=True)
    if not _lock(layout.run / "boot.lock"):
        say("gesso runs already; nothing to do")
        return 0
    say(f"gesso: {record.title}{' -- a TRIAL image: no real ComfyUI, no real models' * record.trial}")
    orphans.sweep(layout, say)
    workspace.lay_out(layout, record, say)
    caddy.configure(layout, env)
    supervisord = layout.gesso / "venv" / "bin" / "supervisord"
    background = LAUNCHED_BY_VAST.exists()
    if background:
        environment.keep(env, say)
    words = [str(supervisord), "--configuration", str(layout.gesso / "etc" / "supervisord.conf")]
    say(f"gesso: starting ComfyUI behind the gate on port 8188{' in the background' * background}")
    _hurry(layout.run / "supervisor.sock")
    return os.execve(words[0], words if background else [*words, "--nodaemon"], dict(env))  # noqa: S606


def _hurry(path: Path, patience: float = 5.0) -> None:
    """Leave a child that knocks at supervisord's door once: it begins with a second of waiting for somebody to come."""
    path.unlink(missing_ok=True)
    if os.fork():
        return
    try:
        os.closerange(3, 64)  # the lock is not this child's
        end = time.monotonic() + patience
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as door:
                door.connect(str(path))
                break
            time.sleep(0.01)
    finally:
        os._exit(0)


def runs(layout: Layout) -> bool:
    """Tell whether a supervisor is alive: it holds the lock for as long as it is."""
    return locks.taken(layout.run / "boot.lock")


def revive(layout: Layout, env: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Start everything anew where the supervisor is gone: it can be killed where it is not the first process."""
    if runs(layout):
        return
    proc.detach([*unmarked(env), str(layout.gesso / "venv" / "bin" / "gesso"), "boot"], layout.logs / "boot.log")
    with contextlib.suppress(OSError):  # what we say went through the supervisor
        say("gesso: the supervisor is gone; starting everything anew")


def _lock(path: Path) -> bool:
    """Take the lock for as long as the supervisor lives; False where somebody has it."""
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
