"""One heal: examine every part, plan, repair step by step, restart ComfyUI where it must be, and report.

It knows nothing of what the parts are: a gesso image has its own (parts.py), a foreign ComfyUI others.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gesso.errors import INTERRUPTED, CheckError, GessoError
from gesso.runtime.heal.damage import Outcome
from gesso.runtime.heal.plan import Plan, Step, plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gesso.runtime.heal.damage import Damage

    Tell = Callable[..., object]  # an event's name, and its facts by keyword
    OnBytes = Callable[[int, int | None], None]  # bytes that were looked at, of how many


class Part(Protocol):
    """One part of an instance. Both methods may raise GessoError."""

    what: str

    def examine(self, on_bytes: OnBytes) -> Sequence[Damage]:
        """Find all that is wrong with it."""

    def repair(self, damages: Sequence[Damage], tell: Tell) -> Sequence[Outcome]:
        """Repair that; give what became of each."""


class Service(Protocol):
    """ComfyUI as a process: it can be asked, kept still, and started anew."""

    def up(self) -> bool:
        """Tell whether it answers."""

    def due(self) -> bool:
        """Tell whether an earlier heal owes it a restart."""

    def owe(self) -> None:
        """Note that it must be restarted, before the first repair that makes it so."""

    def hold(self) -> None:
        """Keep it from being started while what it would read is half repaired."""

    def restart(self, tell: Tell) -> None:
        """Start it anew. Raises CheckError."""

    def settle(self, tell: Tell, *, whole: bool) -> None:
        """Wait until it can be worked with; where not all is `whole`, until it runs. Raises CheckError."""


@dataclass
class Healing:
    """What a heal has found and done so far: a report can be made of it at any moment."""

    facts: dict[str, Any]
    dry_run: bool = False
    begun: float = field(default_factory=time.time)
    found: list[tuple[str, Sequence[Damage]]] = field(default_factory=list)
    plan: Plan | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    troubles: list[GessoError] = field(default_factory=list)  # what no damage stands for
    restarted: int = 0

    @property
    def damages(self) -> list[Damage]:
        """All that was found."""
        return [damage for _, damages in self.found for damage in damages]

    @property
    def code(self) -> int:
        """The exit code."""
        if self.dry_run:
            return 1 if self.damages or self.troubles else 0
        codes = [o.code or 1 for o in self.outcomes if o.state == "failed"]
        codes += [error.exit_code for error in self.troubles]
        done = {id(o.damage) for o in self.outcomes}
        codes += [1 for damage in self.damages if id(damage) not in done]
        return codes[0] if codes else 0

    def summary(self) -> str:
        """Give it in a sentence."""
        if not self.damages and not self.troubles:
            owed = "; ComfyUI was restarted, which an interrupted heal still owed it" * bool(self.restarted)
            return f"nothing is wrong{owed}"
        number = len(self.damages)
        things = f"{number} thing{'s' * (number != 1)}"
        if self.dry_run:
            return f"{things} to repair; nothing was changed"
        repaired = sum(o.state == "repaired" for o in self.outcomes)
        left = sum(o.state == "left" for o in self.outcomes)
        words = [f"{things} found", f"{repaired} repaired"]
        words += [f"{left} left as it is"] * bool(left)
        words += [f"{number - repaired - left} not repaired"] * (number > repaired + left)
        words += ["ComfyUI was restarted" if self.restarted else "ComfyUI was not restarted"]
        words += [error.message for error in self.troubles]
        return ", ".join(words)

    def report(self, code: int | None = None) -> dict[str, Any]:
        """Give the report, as it is kept."""
        became = {id(outcome.damage): outcome for outcome in self.outcomes}
        rows = [
            became[id(d)].as_json() if id(d) in became else {
                **d.as_json(), "outcome": "planned" if self.dry_run and d.repairable else "not repaired",
                "why": "", "next": d.next_step,
            } for d in self.damages
        ]  # fmt: skip
        ended = time.time()
        code = self.code if code is None else code
        return {
            "format": 1, **self.facts, "dry_run": self.dry_run, "begun": round(self.begun), "ended": round(ended),
            "seconds": round(ended - self.begun, 1), "ok": code == 0, "code": code,
            "summary": "interrupted; run it again" if code == INTERRUPTED else self.summary(), "damages": rows,
            "restarted": self.restarted, "fetched": sum(outcome.received for outcome in self.outcomes),
            "troubles": [{"why": error.message, "next": error.next_step} for error in self.troubles],
        }  # fmt: skip


def heal(
    parts: Sequence[Part], service: Service, tell: Tell, healing: Healing, release: Callable[[], None] = lambda: None
) -> None:  # fmt: skip
    """Do it; `healing` has what came of it, also where this is interrupted.

    `release` is called when all is repaired that can be, before it waits for ComfyUI: others may go on then.
    """
    for part in parts:
        _examine(part, tell, healing)
    made = healing.plan = plan(healing.found, up=service.up(), due=service.due())
    tell("planned", steps=[_described(damage) for damage in healing.damages], fetch_bytes=made.fetches,
         restart=made.restarts)  # fmt: skip
    if healing.dry_run:
        return
    for damage in healing.damages:
        if not damage.repairable:
            _ended(Outcome(damage, "failed", damage.found, damage.next_step, code=1), tell, healing)
    if made.restarts:
        service.owe()
    if made.hold:
        _attempt(service.hold, healing)
    by_name = {part.what: part for part in parts}
    for step in made.steps:
        if step.does == "restart":
            _restart(service, tell, healing)
        else:
            _repair(by_name[step.part], step, tell, healing)
    release()
    whole = healing.code == 0
    if made.steps and (whole or healing.restarted):
        _attempt(lambda: service.settle(tell, whole=whole), healing)


def _examine(part: Part, tell: Tell, healing: Healing) -> None:
    tell("examining", what=part.what)
    told = time.monotonic()

    def on_bytes(done: int, size: int | None) -> None:
        nonlocal told
        if time.monotonic() - told > 0.5:
            told = time.monotonic()
            tell("progress", what=part.what, done=done, size=size)

    try:
        damages = part.examine(on_bytes)
    except GessoError as error:
        healing.troubles.append(error)
        tell("failed", kind=part.what, name="examination", why=error.message, next=error.next_step)
        return
    healing.found.append((part.what, damages))
    for damage in damages:
        tell("found", damage=damage.as_json())


def _described(damage: Damage) -> dict[str, Any]:
    given = damage.as_json()
    return {key: given[key] for key in ("kind", "name", "found", "remedy", "restart", "offline", "size", "repairable")}


def _repair(part: Part, step: Step, tell: Tell, healing: Healing) -> None:
    for damage in step.damages:
        tell("repairing", kind=damage.kind, name=damage.name, remedy=damage.remedy)
    try:
        outcomes = part.repair(step.damages, tell)
    except GessoError as error:
        outcomes = [Outcome.failed(damage, error) for damage in step.damages]
    for outcome in outcomes:
        _ended(outcome, tell, healing)


def _ended(outcome: Outcome, tell: Tell, healing: Healing) -> None:
    healing.outcomes.append(outcome)
    damage = outcome.damage
    if outcome.state == "failed":
        tell("failed", kind=damage.kind, name=damage.name, why=outcome.why, next=outcome.next_step)
    else:
        tell(outcome.state, kind=damage.kind, name=damage.name, said=outcome.why or damage.remedy)


def _restart(service: Service, tell: Tell, healing: Healing) -> None:
    broken = [o.damage for o in healing.outcomes if o.state == "failed" and o.damage.restart and o.damage.repairable]
    if broken and service.up():  # what it has in memory still works; a new start might not
        names = ", ".join(damage.name for damage in broken)
        healing.troubles.append(CheckError(f"ComfyUI was not restarted: {names} could not be repaired", "heal again"))
        return
    if _attempt(lambda: service.restart(tell), healing):
        healing.restarted += 1


def _attempt(act: Callable[[], None], healing: Healing) -> bool:
    try:
        act()
    except GessoError as error:
        healing.troubles.append(error)
        return False
    return True
