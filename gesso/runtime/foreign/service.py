"""ComfyUI on a foreign instance as a heal needs it: asked, started again the way it was started, waited for."""

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
from gesso.runtime.foreign.parts import KRITAS
from gesso.runtime.heal import pending_restart
from gesso.runtime.services import comfyui

if TYPE_CHECKING:
    from gesso.runtime.foreign.discover import Found, Process
    from gesso.runtime.foreign.launch_method import Manner
    from gesso.runtime.foreign.paths import Foreign
    from gesso.runtime.heal.runner import Tell
    from gesso.runtime.layout import Record

STOPPING, STARTING, SETTLING = 30.0, 30.0, 900.0  # seconds; a ComfyUI with many packs takes minutes to answer
BY_ITSELF = 3.0  # seconds in which a loop around it would have started it again
_STEP = 0.1
_OURS = ("GESSO_", "SSH_", "SUDO_")  # of our own session; they are no part of how ComfyUI was started


class Handmade:
    """ComfyUI, whoever started it."""

    def __init__(self, layout: Foreign, record: Record, found: Found, manner: Manner) -> None:
        self._layout, self._record, self._found, self._manner = layout, record, found, manner
        self._log = layout.kept / "comfyui.log"

    def up(self) -> bool:
        """Tell whether Krita could work with it, as far as the tooling nodes go."""
        try:
            own = [name for name in self._record.classes if name.startswith(KRITAS)]
            return not comfyui.missing(own, port=self._layout.port)
        except CheckError:
            return False

    def due(self) -> bool:
        """Tell whether an earlier heal owes it a restart."""
        return self._layout.owed.exists()

    def owe(self) -> None:
        """Note that it must be restarted. Raises CheckError."""
        pending_restart.note(self._layout.owed)

    def hold(self) -> None:
        """Nothing: it is not we who would start it."""

    def restart(self, tell: Tell) -> None:
        """Start it again the way it was started.

        Raises CheckError where that is not ours to do, or does not come about.
        """
        tell("restarting", what="comfyui", why=f"what it reads when it starts was repaired; started by {self._manner}")
        if self._manner.how == "first process":
            raise CheckError(
                "ComfyUI is what keeps this instance alive: if we ended it, the instance would end",
                "restart the instance yourself (its console); all else is done",
            )
        if self._manner.control:
            result = proc.run([*self._manner.control, "restart", self._manner.name], timeout=120)
            if not result.ok:
                raise CheckError(f"{self._manner}: {result.tail()}", "restart ComfyUI yourself")
        else:
            self._by_hand(tell)
        self._layout.owed.unlink(missing_ok=True)

    def _by_hand(self, tell: Tell) -> None:
        old = self._now()  # not the one that was found at first: that may have ended by itself meanwhile
        before = old or self._found.process
        log = (_log_of(old) if old is not None else None) or self._log
        if old is not None:
            self._end(old)
            if self._appears(BY_ITSELF):
                tell("said", text="it was started again by what watches it")
                return
        argv, cwd, env = self._as_before(before)
        if before is None:
            tell("said", text=f"how it was started is not known; now: {' '.join(argv)}")
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            pid = proc.detach(argv, log, cwd=cwd, env=env, alone=True)
        except OSError as error:
            raise CheckError(f"ComfyUI cannot be started: {error}", "start it yourself") from None
        tell("said", text=f"started as process {pid}; its output goes to {log}")
        if not self._appears(STARTING):
            raise CheckError(f"ComfyUI ended at once: {_end_of(log)}", f"read {log}; start it yourself")

    def _as_before(self, before: Process | None) -> tuple[list[str], Path, dict[str, str]]:
        """Give command, folder and environment of a new start."""
        if before is not None:
            return [before.python, *before.argv[1:]], Path(before.cwd), before.env
        env = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        told = paths.remembered(self._layout.kept, self._found.folder)
        if told:
            return [self._found.python, *told["argv"][1:]], Path(told["cwd"]), env
        words = [self._found.python, "main.py", *["--cpu"] * (not comfyui.has_gpu())]
        return words, self._found.folder, env

    def _now(self) -> Process | None:
        """Give the process that is this ComfyUI at the moment."""
        folder = os.path.realpath(self._found.folder)
        alive = [p for p in discover.running() if p.main is not None and os.path.realpath(p.main.parent) == folder]
        return alive[0] if alive else None

    def _appears(self, patience: float) -> bool:
        """Wait for a process that stays for a second."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if (process := self._now()) is not None:
                time.sleep(1)
                if (after := self._now()) is not None and after.pid == process.pid:
                    return True
            time.sleep(_STEP)
        return False

    def _end(self, process: Process) -> None:
        for sig, patience in ((signal.SIGTERM, STOPPING), (signal.SIGKILL, 5.0)):
            try:
                os.kill(process.pid, sig)
            except ProcessLookupError:
                return
            except PermissionError:
                raise CheckError(
                    "ComfyUI belongs to another user: it was not restarted",
                    "log in as that user or as root, and heal again",
                ) from None
            end = time.monotonic() + patience
            while time.monotonic() < end:
                if not _lives(process.pid):
                    return
                time.sleep(_STEP)
        raise CheckError(f"ComfyUI (process {process.pid}) does not end", "restart the instance")

    def settle(self, tell: Tell, *, whole: bool) -> None:  # noqa: ARG002 - the packs that lack are told either way
        """Wait until it answers, then see that it has what Krita needs.

        Raises CheckError where it ends, takes too long, or lacks node classes.
        """
        begun, told, gone = time.monotonic(), False, 0.0
        while True:
            try:
                lacking = comfyui.missing(self._record.classes, port=self._layout.port)
            except CheckError as error:
                gone = (gone or time.monotonic()) if self._now() is None else 0.0
                if gone and time.monotonic() - gone > STARTING:
                    raise CheckError(f"ComfyUI ended: {_end_of(self._log)}", "its log says why") from None
                if time.monotonic() - begun > SETTLING:
                    raise CheckError(error.message, "look at ComfyUI's own log") from None
                if not told:
                    tell("waiting", what=f"ComfyUI is starting (port {self._layout.port})")
                told = True
                time.sleep(3 * _STEP)
                continue
            if lacking:
                raise CheckError(
                    f"ComfyUI lacks node classes that Krita needs: {', '.join(lacking)}",
                    "look in ComfyUI's log for (IMPORT FAILED); install the requirements of the packs that have them",
                )
            return


def _log_of(process: Process) -> Path | None:
    """Give the file that its output goes to; None where that is a terminal, a pipe, or a file that is gone."""
    with contextlib.suppress(OSError):
        path = Path(f"/proc/{process.pid}/fd/1").readlink()
        if path.is_file() and os.access(path, os.W_OK):
            return path
    return None


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (OSError, IndexError):
        return False


def _end_of(log: Path) -> str:
    try:
        lines = log.read_bytes()[-4000:].decode("utf-8", "replace").splitlines()
    except OSError:
        return "it left no log"
    return " | ".join(line.strip() for line in lines[-3:] if line.strip())[:300]
