"""The boot, idempotent: guard, workspace, gate, then everything under supervision. A second start does nothing."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gesso.errors import CheckError
from gesso.runtime import gate, guard, workspace

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
    guard.ensure(layout, record, say)
    workspace.lay_out(layout, record, say)
    gate.configure(layout, env)
    supervisord = layout.gesso / "venv" / "bin" / "supervisord"
    background = LAUNCHED_BY_VAST.exists()
    words = [str(supervisord), "--configuration", str(layout.gesso / "etc" / "supervisord.conf")]
    say(f"gesso: starting ComfyUI behind the gate on port 8188{' in the background' * background}")
    return os.execve(words[0], words if background else [*words, "--nodaemon"], dict(env))  # noqa: S606


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
