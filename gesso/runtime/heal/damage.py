"""A damage (one thing that differs from how the image was made), its remedy, and the outcome of the repair."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from gesso.errors import GessoError

# In the order in which people should read them: what prevents ComfyUI from starting comes first.
Kind = Literal["python", "code", "pack", "config", "layout", "workflow", "model", "service"]


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong.

    `found` describes the actual state, `remedy` what heal does about it, both for people. `restart`: ComfyUI reads it
    at its start, so that the repair takes effect only after a restart. `offline`: the image itself holds a good copy.
    Where heal cannot repair it, `repairable` is False and `next_step` tells people what to do. `files`: the paths
    below a tree that differ. `size`: bytes to fetch, where that is known.
    """

    kind: Kind
    name: str
    found: str
    remedy: str
    restart: bool = False
    offline: bool = True
    repairable: bool = True
    next_step: str = ""
    files: tuple[str, ...] = ()
    size: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.found}"


@dataclass(frozen=True)
class Outcome:
    """The result of a repair. `left`: the damage remains, and does no harm. `received`: bytes fetched."""

    damage: Damage
    state: Literal["repaired", "failed", "left"]
    why: str = ""
    next_step: str = ""
    code: int = 0
    received: int = 0

    @staticmethod
    def failed(damage: Damage, error: GessoError) -> Outcome:
        """Return the outcome of a repair that raised `error`."""
        return Outcome(damage, "failed", error.message, error.next_step, error.exit_code)

    def as_json(self) -> dict[str, Any]:
        """Return it as the report has it."""
        return {**self.damage.as_json(), "outcome": self.state, "why": self.why, "next": self.next_step}
