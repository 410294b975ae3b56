"""ComfyUI in a gesso instance, as a heal needs it: asked, kept still, started anew by the supervisor, waited for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gesso.errors import CheckError
from gesso.runtime import boot
from gesso.runtime.heal import pending_restart
from gesso.runtime.layout import COMFY_PORT
from gesso.runtime.services import comfyui, health
from gesso.runtime.state.state import USABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.runtime.heal.runner import Tell
    from gesso.runtime.layout import Layout, Record
    from gesso.runtime.services.supervisord import Program, Supervisor

COMFYUI = "comfyui"
STOPPING, STARTING = 20.0, 30.0  # seconds
SETTLING, FAILING = 600.0, 30.0  # seconds until Krita can work; and that a failure has to go away by itself
_STEP = 0.1
_NEXT = "`gesso logs comfyui` says why"


class Supervised:
    """ComfyUI under supervisord."""

    def __init__(
        self, layout: Layout, record: Record, supervisor: Supervisor, revive: Callable[[], None], *,
        port: int = COMFY_PORT, status: Callable[[], dict[str, Any]] = health.status,
    ) -> None:  # fmt: skip
        self._layout, self._record, self._supervisor, self._revive = layout, record, supervisor, revive
        self._port, self._status = port, status

    def answers(self) -> bool:
        """Tell whether it answers at all."""
        try:
            comfyui.ask("/system_stats", timeout=5.0, port=self._port)
        except CheckError:
            return False
        return True

    def up(self) -> bool:
        """Tell whether Krita could work with it: it answers, and lacks no class."""
        try:
            return self.answers() and not comfyui.missing(self._record.classes, port=self._port)
        except CheckError:
            return False

    def due(self) -> bool:
        """Tell whether an earlier heal owes it a restart."""
        return self._layout.owed.exists()

    def owe(self) -> None:
        """Note that it must be restarted. Raises CheckError."""
        pending_restart.note(self._layout.owed)

    def hold(self) -> None:
        """Keep it from being started, unless it answers."""
        if not self.answers() and (program := self._program()) is not None and program.state != "STOPPED":
            self._stop(program)

    def restart(self, tell: Tell) -> None:
        """Stop it and start it; where the supervisor is gone, start everything.

        Raises CheckError where that does not come about.
        """
        tell("restarting", what=COMFYUI, why="what it reads when it starts was repaired")
        program = self._program()
        if program is None:
            self._revive()
            self._until(
                lambda: boot.runs(self._layout), STARTING, "the supervisor does not start", "restart the instance"
            )
        else:
            self._stop(program)
            self._supervisor.start(COMFYUI)
        self._until(self._begun, STARTING, "ComfyUI does not start", _NEXT)
        self._layout.owed.unlink(missing_ok=True)

    def _begun(self) -> bool:
        program = self._program()
        return program is not None and program.pid != 0

    def _stop(self, program: Program) -> None:
        if program.pid or program.state in {"STARTING", "BACKOFF"}:
            self._supervisor.stop(COMFYUI)
            self._until(lambda: (now := self._program()) is not None and not now.pid and now.state != "BACKOFF",
                        STOPPING, "ComfyUI does not stop", _NEXT)  # fmt: skip

    def _program(self) -> Program | None:
        """Give it; None where no supervisor answers."""
        try:
            return self._supervisor.programs().get(COMFYUI)
        except CheckError:
            return None

    def _until(self, holds: Callable[[], bool], patience: float, why: str, step: str) -> None:
        end = time.monotonic() + patience
        while not holds():
            if time.monotonic() > end:
                raise CheckError(why, step)
            time.sleep(_STEP)

    def settle(self, tell: Tell, *, whole: bool) -> None:
        """Wait until Krita can work, by the agent's word and ComfyUI's own; where not all is `whole`, by ComfyUI's.

        Raises CheckError where it fails, or where that takes too long.
        """
        begun, told = time.monotonic(), ""
        while True:
            found = self._told() if whole else {"state": "ready"}
            why = str(found.get("why") or "ComfyUI is starting")
            if found.get("state") in USABLE:
                if self.up():
                    return
                why = "ComfyUI is starting"
            patience = FAILING if found.get("state") == "failed" else SETTLING
            if time.monotonic() - begun > patience:
                raise CheckError(why, str(found.get("next") or _NEXT))
            if why != told:
                tell("waiting", what=why)
                told = why
            time.sleep(3 * _STEP)

    def _told(self) -> dict[str, Any]:
        try:
            return self._status()
        except CheckError as error:
            return {"why": error.message, "next": error.next_step}
