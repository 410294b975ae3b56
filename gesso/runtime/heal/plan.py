"""Plan a heal: the order of the repairs, and when ComfyUI is restarted (once, or not at all). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gesso.runtime.heal.damage import Damage


@dataclass(frozen=True)
class Step:
    """One step: the damages of one part that are repaired together, or the restart of ComfyUI."""

    action: Literal["repair", "restart"]
    part: str = ""
    damages: tuple[Damage, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The steps in their order. `prevent_start`: ComfyUI is not up, and is kept stopped until its code is repaired."""

    steps: tuple[Step, ...]
    prevent_start: bool = False

    @property
    def has_restart(self) -> bool:
        """Whether ComfyUI is restarted."""
        return any(step.action == "restart" for step in self.steps)

    @property
    def fetch_bytes(self) -> int:
        """Bytes to fetch, as far as known."""
        return sum(damage.size or 0 for step in self.steps for damage in step.damages if not damage.offline)


def plan(found: Sequence[tuple[str, Sequence[Damage]]], *, is_up: bool, restart_pending: bool = False) -> Plan:
    """Order the repairs. `found`: the damages by part, in the order of the parts; `is_up`: ComfyUI serves requests.

    `restart_pending`: a repair of an interrupted heal still requires its restart.

    Offline repairs come first: they take moments. ComfyUI keeps serving from memory while the rest is fetched, and is
    restarted at the end. Where it is not up, there is nothing to lose: it is started as soon as its code and its Python
    are repaired.
    """
    repairable = [(part, tuple(d for d in damages if d.repairable)) for part, damages in found]
    repairable = [(part, damages) for part, damages in repairable if damages]
    restart = restart_pending or any(damage.restart for _, damages in repairable for damage in damages)
    early = [Step("repair", p, damages) for p, damages in repairable if any(d.offline or d.restart for d in damages)]
    late = [Step("repair", p, damages) for p, damages in repairable if not any(d.offline or d.restart for d in damages)]
    restart_steps = [Step("restart")] * restart
    steps = [*early, *late, *restart_steps] if is_up else [*early, *restart_steps, *late]
    return Plan(tuple(steps), prevent_start=restart and not is_up)
