"""In which order what was found is repaired, and where in it ComfyUI is restarted: once, or not at all. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gesso.runtime.heal.damage import Damage


@dataclass(frozen=True)
class Step:
    """One step: the damages of one part that are repaired together, or the restart of ComfyUI."""

    does: Literal["repair", "restart"]
    part: str = ""
    damages: tuple[Damage, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The steps in their order. `hold`: ComfyUI answers nobody, and is kept still until its code is whole again."""

    steps: tuple[Step, ...]
    hold: bool = False

    @property
    def restarts(self) -> bool:
        """True where ComfyUI is restarted."""
        return any(step.does == "restart" for step in self.steps)

    @property
    def fetches(self) -> int:
        """Bytes that must be fetched, as far as that is known."""
        return sum(damage.size or 0 for step in self.steps for damage in step.damages if not damage.offline)


def plan(found: Sequence[tuple[str, Sequence[Damage]]], *, up: bool, due: bool = False) -> Plan:
    """Decide. `found`: the damages by part, in the order of the parts; `up`: ComfyUI answers.

    `due`: a repair that an interrupted heal made still waits for its restart.

    Offline repairs come first: they take moments. ComfyUI goes on serving with what it has in memory while the rest is
    fetched, and is restarted at the end; where it does not answer there is nothing to lose, and it is started as soon
    as its code and its Python are whole.
    """
    own = [(part, tuple(d for d in damages if d.repairable)) for part, damages in found]
    own = [(part, damages) for part, damages in own if damages]
    restart = due or any(damage.restart for _, damages in own for damage in damages)
    early = [Step("repair", part, damages) for part, damages in own if any(d.offline or d.restart for d in damages)]
    late = [Step("repair", part, damages) for part, damages in own if not any(d.offline or d.restart for d in damages)]
    again = [Step("restart")] * restart
    steps = [*early, *late, *again] if up else [*early, *again, *late]
    return Plan(tuple(steps), hold=restart and not up)
