"""ComfyUI on a foreign instance, as a heal needs it: check it, restart it the way it was started, wait for it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import proc
from gesso.errors import CheckError
from gesso.runtime.foreign import discover, paths
from gesso.runtime.foreign.parts import NODE_PREFIX
from gesso.runtime.heal import pending_restart
from gesso.runtime.services import comfyui

if TYPE_CHECKING:
    from gesso.runtime.foreign.discover import Found, Process
    from gesso.runtime.foreign.launch_method import LaunchMethod
    from gesso.runtime.foreign.paths import ForeignLayout
    from gesso.runtime.heal.runner import OnEvent
    from gesso.runtime.layout import Record

STOP_TIMEOUT, START_TIMEOUT, READY_TIMEOUT = 30.0, 30.0, 900.0  # seconds; with many packs it takes minutes to start
RESPAWN_TIMEOUT = 3.0  # seconds in which a watchdog would have restarted it
_POLL_INTERVAL = 0.1
_SESSION_VARIABLES = ("GESSO_", "SSH_", "SUDO_")  # variables of our own session, which must not reach ComfyUI


class ForeignService:
    """ComfyUI, however it was started."""

    def __init__(self, layout: ForeignLayout, record: Record, found: Found, launch_method: LaunchMethod) -> None:
        self._layout, self._record, self._found, self._launch_method = layout, record, found, launch_method
        self._log = layout.state_at / "comfyui.log"

    def is_up(self) -> bool:
        """Return whether it responds and has the node classes of the tooling nodes."""
        try:
            required = [name for name in self._record.classes if name.startswith(NODE_PREFIX)]
            return not comfyui.missing_classes(required, port=self._layout.port)
        except CheckError:
            return False

    def restart_pending(self) -> bool:
        """Return whether an interrupted heal left a restart pending."""
        return self._layout.pending_restart.exists()

    def mark_restart_pending(self) -> None:
        """Record that a restart is required. Raises CheckError."""
        pending_restart.mark(self._layout.pending_restart)

    def prevent_start(self) -> None:
        """Do nothing: gesso does not control when it is started."""

    def restart(self, on_event: OnEvent) -> None:
        """Restart it the way it was started.

        Raises CheckError where that is not possible, or fails.
        """
        on_event(
            "restarting",
            what="comfyui",
            why=f"files that it loads at startup were repaired; started {self._launch_method.adverb}",
        )
        if self._launch_method.kind == "first process":
            raise CheckError(
                "ComfyUI keeps this instance alive: stopping it would end the instance",
                "restart the instance yourself (in its console); everything else is done",
            )
        if self._launch_method.control:
            result = proc.run([*self._launch_method.control, "restart", self._launch_method.name], timeout=120)
            if not result.ok:
                raise CheckError(f"{self._launch_method}: {result.tail()}", "restart ComfyUI yourself")
        else:
            self._restart_process(on_event)
        self._layout.pending_restart.unlink(missing_ok=True)

    def _restart_process(self, on_event: OnEvent) -> None:
        old = self._current_process()  # may have been restarted since it was found
        before = old or self._found.process
        log = (_log_of(old) if old is not None else None) or self._log
        if old is not None:
            self._terminate(old)
            if self._stays_up(RESPAWN_TIMEOUT):
                on_event("said", text="it was restarted by its watchdog")
                return
        argv, cwd, env = self._start_command(before)
        if before is None:
            on_event("said", text=f"it is unknown how it was started; starting: {' '.join(argv)}")
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            pid = proc.detach(argv, log, cwd=cwd, env=env, replace_env=True)
        except OSError as error:
            raise CheckError(f"ComfyUI cannot be started: {error}", "start it yourself") from None
        on_event("said", text=f"started as process {pid}; its output goes to {log}")
        if not self._stays_up(START_TIMEOUT):
            raise CheckError(f"ComfyUI exited immediately: {_last_lines(log)}", f"read {log}; start it yourself")

    def _start_command(self, before: Process | None) -> tuple[list[str], Path, dict[str, str]]:
        """Return the command, the folder and the environment for a start."""
        if before is not None:
            return [before.python, *before.argv[1:]], Path(before.cwd), before.env
        env = {name: value for name, value in os.environ.items() if not name.startswith(_SESSION_VARIABLES)}
        saved = paths.saved_start(self._layout.state_at, self._found.folder)
        if saved:
            return [self._found.python, *saved["argv"][1:]], Path(saved["cwd"]), env
        argv = [self._found.python, "main.py", *["--cpu"] * (not comfyui.has_gpu())]
        return argv, self._found.folder, env

    def _current_process(self) -> Process | None:
        """Return the process that runs this ComfyUI now."""
        folder = os.path.realpath(self._found.folder)
        alive = [p for p in discover.running() if p.main is not None and os.path.realpath(p.main.parent) == folder]
        return alive[0] if alive else None

    def _stays_up(self, timeout: float) -> bool:
        """Wait for a process that runs for at least a second."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if (process := self._current_process()) is not None:
                time.sleep(1)
                if (after := self._current_process()) is not None and after.pid == process.pid:
                    return True
            time.sleep(_POLL_INTERVAL)
        return False

    def _terminate(self, process: Process) -> None:
        for sig, timeout in ((signal.SIGTERM, STOP_TIMEOUT), (signal.SIGKILL, 5.0)):
            try:
                os.kill(process.pid, sig)
            except ProcessLookupError:
                return
            except PermissionError:
                raise CheckError(
                    "ComfyUI belongs to another user: it was not restarted",
                    "log in as that user or as root, then run the heal again",
                ) from None
            deadline = time.monotonic() + timeout
            while time.monotonic() < deadline:
                if not _is_alive(process.pid):
                    return
                time.sleep(_POLL_INTERVAL)
        raise CheckError(f"ComfyUI (process {process.pid}) does not exit", "restart the instance")

    def confirm(self, *, repaired: bool) -> None:
        """Do nothing: there is no agent, and `wait_ready` has checked what there is."""

    def wait_ready(self, on_event: OnEvent, *, all_repaired: bool) -> None:  # noqa: ARG002 - missing packs are reported in any case
        """Wait until it responds, then check that it has the node classes that Krita needs.

        Raises CheckError where it exits, takes too long, or lacks node classes.
        """
        started, reported, gone = time.monotonic(), False, 0.0
        while True:
            try:
                missing = comfyui.missing_classes(self._record.classes, port=self._layout.port)
            except CheckError as error:
                gone = (gone or time.monotonic()) if self._current_process() is None else 0.0
                if gone and time.monotonic() - gone > START_TIMEOUT:
                    raise CheckError(f"ComfyUI exited: {_last_lines(self._log)}", "see its log") from None
                if time.monotonic() - started > READY_TIMEOUT:
                    raise CheckError(error.message, "see ComfyUI's own log") from None
                if not reported:
                    on_event("waiting", what=f"ComfyUI is starting (port {self._layout.port})")
                reported = True
                time.sleep(3 * _POLL_INTERVAL)
                continue
            if missing:
                raise CheckError(
                    f"ComfyUI lacks node classes that Krita needs: {', '.join(missing)}",
                    "search ComfyUI's log for (IMPORT FAILED); install the requirements of the packs that failed",
                )
            return


def _log_of(process: Process) -> Path | None:
    """Return the file that its output goes to; None where that is a terminal, a pipe, or a deleted file."""
    with contextlib.suppress(OSError):
        path = Path(f"/proc/{process.pid}/fd/1").readlink()
        if path.is_file() and os.access(path, os.W_OK):
            return path
    return None


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (OSError, IndexError):
        return False


def _last_lines(log: Path) -> str:
    try:
        lines = log.read_bytes()[-4000:].decode("utf-8", "replace").splitlines()
    except OSError:
        return "no log"
    return " | ".join(line.strip() for line in lines[-3:] if line.strip())[:300]
