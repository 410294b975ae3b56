"""Watch the gate: whether this very instance answers through the public port.

A damaged configuration is rewritten, and a frozen gate is killed.

supervisord restarts a gate that ended; one that supervisord gave up is restarted with the other programs
(gesso.runtime.watch.comfyui).
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from gesso.errors import CheckError
from gesso.runtime.gate import caddy
from gesso.runtime.services import public_port
from gesso.runtime.state.state import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.runtime.layout import Layout
    from gesso.runtime.services.public_port import Answer
    from gesso.runtime.services.supervisord import Program, Supervisor

GATE = "gate"
_GRACE = 3.0  # seconds without an answer before that is a trouble: it may be starting
_FROZEN = 15.0  # seconds without an answer before a running gate is killed


class GateWatch:
    """The state of the gate. One thread calls `ask` and `repair`; others read single attributes."""

    def __init__(
        self, layout: Layout, env: Mapping[str, str], supervisor: Supervisor, note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._layout, self._env, self._supervisor, self._note, self._clock = layout, env, supervisor, note, clock
        self._silent_since: float | None = None
        self._run_id: tuple[int, int] = (0, 0)
        self.up = False
        self.trouble: Trouble | None = None

    def record(self, program: Program | None) -> None:
        """Record the gate's process: a new one must identify itself before it gets the token."""
        run_id = (0, 0) if program is None else program.run_id
        if run_id != self._run_id:
            self._run_id, self.up = run_id, False

    def ask(self, path: str) -> Answer | None:
        """Send a GET request through the public port; return None if this instance does not answer there."""
        try:
            secure = caddy.certificate(self._layout, self._env) is not None
            answer = public_port.ask(self._layout, path, identify=not self.up, secure=secure)
        except CheckError as error:
            self.up = False
            now = self._clock()
            self._silent_since = now if self._silent_since is None else self._silent_since
            if now - self._silent_since >= _GRACE:
                self.trouble = Trouble(error.message, error.next_step)
            return None
        self.up, self.trouble, self._silent_since = True, None, None
        return answer

    def repair(self, program: Program | None) -> None:
        """Rewrite a damaged configuration, and kill a gate that runs without answering.

        What cannot be repaired is a trouble.
        """
        try:
            if not caddy.is_configured(self._layout, self._env):
                caddy.configure(self._layout, self._env, caddy.active_token(self._layout, self._env))
                self._note("the gate's configuration was changed; it was rewritten")
                self._end(program, self._supervisor.terminate)
        except CheckError as error:
            self.trouble = Trouble(error.message, error.next_step)
        if self._silent_since is not None and self._clock() - self._silent_since >= _FROZEN:
            self._silent_since = self._clock()
            self._note("the gate did not answer; it was restarted")
            self._end(program, self._supervisor.kill)

    def _end(self, program: Program | None, end: Callable[[str], None]) -> None:
        if program is not None and program.state == "RUNNING":
            with contextlib.suppress(CheckError):
                end(GATE)
