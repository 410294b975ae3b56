"""What an examination finds: one thing that is not as the image was made, what is done about it, what became of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from gesso.errors import GessoError

# In the order in which people should read them: what keeps ComfyUI from starting comes first.
Kind = Literal["python", "code", "pack", "config", "layout", "workflow", "model", "service"]


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong.

    `found` says what is there, `remedy` what heal does about it, both in plain words. `restart`: ComfyUI has read it
    when it started, so that only a new start makes the repair count. `offline`: the image itself holds the right copy.
    Where heal can do nothing, `repairable` is False and `next_step` says what a person can do. `files`: the paths
    below a tree that differ. `size`: bytes that must be fetched, where that is known.
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
        """Give it as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.found}"


@dataclass(frozen=True)
class Outcome:
    """What became of a damage. `left`: it is still there, and stands in nobody's way. `received`: bytes fetched."""

    damage: Damage
    state: Literal["repaired", "failed", "left"]
    why: str = ""
    next_step: str = ""
    code: int = 0
    received: int = 0

    @staticmethod
    def failed(damage: Damage, error: GessoError) -> Outcome:
        """Give what an error has made of it."""
        return Outcome(damage, "failed", error.message, error.next_step, error.exit_code)

    def as_json(self) -> dict[str, Any]:
        """Give it as the report has it."""
        return {**self.damage.as_json(), "outcome": self.state, "why": self.why, "next": self.next_step}
