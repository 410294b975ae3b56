"""ComfyUI in a gesso instance, as a heal needs it: check it, stop it, restart it by the supervisor, wait for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gesso import small_files
from gesso.errors import CheckError
from gesso.runtime import boot
from gesso.runtime.heal import pending_restart
from gesso.runtime.layout import COMFY_PORT
from gesso.runtime.services import comfyui, health
from gesso.runtime.state.state import USABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.runtime.heal.runner import OnEvent
    from gesso.runtime.layout import Layout, Record
    from gesso.runtime.services.supervisord import Program, Supervisor

COMFYUI = "comfyui"
STOP_TIMEOUT, START_TIMEOUT = 20.0, 30.0  # seconds
READY_TIMEOUT, FAILED_TIMEOUT = (
    600.0,
    30.0,
)  # seconds until it is ready for Krita; and for a failure to recover by itself
CONFIRM_TIMEOUT = 30.0  # seconds for the state to follow a repair
_POLL_INTERVAL = 0.1
_NEXT = "see `gesso logs comfyui`"


class SupervisedService:
    """ComfyUI under supervisord."""

    def __init__(
        self, layout: Layout, record: Record, supervisor: Supervisor, revive: Callable[[], None], *,
        port: int = COMFY_PORT, status: Callable[[Layout], dict[str, Any]] = health.status,
        fresh: Callable[[Layout], dict[str, Any]] = health.fresh_status,
    ) -> None:  # fmt: skip
        self._layout, self._record, self._supervisor, self._revive = layout, record, supervisor, revive
        self._port, self._status, self._fresh = port, status, fresh

    def responds(self) -> bool:
        """Return whether it answers HTTP requests at all."""
        try:
            comfyui.get_json("/system_stats", timeout=5.0, port=self._port)
        except CheckError:
            return False
        return True

    def is_up(self) -> bool:
        """Return whether Krita can work with it: it responds, and no node class is missing."""
        try:
            return self.responds() and not comfyui.missing_classes(self._record.classes, port=self._port)
        except CheckError:
            return False

    def restart_pending(self) -> bool:
        """Return whether an interrupted heal left a restart pending."""
        return self._layout.pending_restart.exists()

    def mark_restart_pending(self) -> None:
        """Record that a restart is required. Raises CheckError."""
        pending_restart.mark(self._layout.pending_restart)

    def prevent_start(self) -> None:
        """Stop its program, unless it responds."""
        if not self.responds() and (program := self._program()) is not None and program.state != "STOPPED":
            self._stop(program)

    def restart(self, on_event: OnEvent) -> None:
        """Stop it and start it; where the supervisor is not running, start everything.

        Raises CheckError where it does not start in time.
        """
        on_event("restarting", what=COMFYUI, why="files that it loads at startup were repaired")
        program = self._program()
        if program is None:
            self._revive()
            self._wait_until(
                lambda: boot.is_running(self._layout),
                START_TIMEOUT,
                "the supervisor does not start",
                "restart the instance",
            )
        else:
            self._stop(program)
            self._supervisor.start(COMFYUI)
        self._wait_until(self._has_started, START_TIMEOUT, "ComfyUI does not start", _NEXT)
        self._layout.pending_restart.unlink(missing_ok=True)

    def _has_started(self) -> bool:
        program = self._program()
        return program is not None and program.pid != 0

    def _stop(self, program: Program) -> None:
        if program.pid or program.state in {"STARTING", "BACKOFF"}:
            self._supervisor.stop(COMFYUI)
            self._wait_until(lambda: (now := self._program()) is not None and not now.pid and now.state != "BACKOFF",
                        STOP_TIMEOUT, "ComfyUI does not stop", _NEXT)  # fmt: skip

    def _program(self) -> Program | None:
        """Return its program; None where the supervisor does not answer."""
        try:
            return self._supervisor.programs().get(COMFYUI)
        except CheckError:
            return None

    def _wait_until(self, condition: Callable[[], bool], timeout: float, message: str, next_step: str) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise CheckError(message, next_step)
            time.sleep(_POLL_INTERVAL)

    def wait_ready(self, on_event: OnEvent, *, all_repaired: bool) -> None:
        """Wait until the agent and ComfyUI are ready for Krita; where not `all_repaired`, ComfyUI alone.

        Raises CheckError where it fails, or takes too long.
        """
        started, reported = time.monotonic(), ""
        while True:
            status = self._agent_status() if all_repaired else self._refusal()
            why = str(status.get("why") or "ComfyUI is starting")
            if status.get("state") in USABLE:
                if self.is_up():
                    return
                why = "ComfyUI is starting"
            timeout = FAILED_TIMEOUT if status.get("state") == "failed" else READY_TIMEOUT
            if time.monotonic() - started > timeout:
                raise CheckError(why, str(status.get("next") or _NEXT))
            if why != reported:
                on_event("waiting", what=why)
                reported = why
            time.sleep(3 * _POLL_INTERVAL)

    def _refusal(self) -> dict[str, Any]:
        """Return why the guard refuses the start, as a status; without the agent's, for which other damage counts."""
        try:
            found = small_files.read_json(comfyui.fault_file(self._layout))
            return {"state": "failed", "why": found["why"], "next": found["next"]}
        except (OSError, ValueError, KeyError, TypeError):
            return {"state": "ready"}

    def confirm(self, *, repaired: bool) -> None:
        """Ask the agent for a fresh state; where something was `repaired`, again until it follows.

        Raises CheckError where it is `failed` or `degraded`, or where the agent does not answer.
        """
        deadline = time.monotonic() + CONFIRM_TIMEOUT * repaired
        while (trouble := self._trouble()) is not None:
            if time.monotonic() >= deadline:
                raise trouble
            time.sleep(10 * _POLL_INTERVAL)

    def _trouble(self) -> CheckError | None:
        try:
            status = self._fresh(self._layout)
        except CheckError as error:
            return error
        if status.get("state") not in {"failed", "degraded"}:
            return None
        return CheckError(f"{status['state']}: {status.get('why')}", str(status.get("next") or _NEXT))

    def _agent_status(self) -> dict[str, Any]:
        try:
            return self._status(self._layout)
        except CheckError as error:
            return {"why": error.message, "next": error.next_step}
