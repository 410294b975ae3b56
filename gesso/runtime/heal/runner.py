"""Run a heal: examine every part, plan, repair step by step, restart ComfyUI where needed, and report.

Independent of what the parts are: a gesso image has its own (parts.py), a foreign ComfyUI others.
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

    OnEvent = Callable[..., object]  # the name of an event, and its fields as keywords
    OnBytes = Callable[[int, int | None], None]  # bytes read so far, and in total


class Part(Protocol):
    """One part of an instance. Both methods may raise GessoError."""

    what: str

    def examine(self, on_bytes: OnBytes) -> Sequence[Damage]:
        """Return everything that is wrong with it."""

    def repair(self, damages: Sequence[Damage], on_event: OnEvent) -> Sequence[Outcome]:
        """Repair them, and return the outcome of each."""


class Service(Protocol):
    """ComfyUI as a process."""

    def is_up(self) -> bool:
        """Return whether it serves requests."""

    def restart_pending(self) -> bool:
        """Return whether an earlier heal was interrupted before the restart that its repairs require."""

    def mark_restart_pending(self) -> None:
        """Record that a restart is required; called before the first repair that requires it."""

    def prevent_start(self) -> None:
        """Keep it stopped while the code that it would load is only partly repaired."""

    def restart(self, on_event: OnEvent) -> None:
        """Restart it. Raises CheckError."""

    def wait_ready(self, on_event: OnEvent, *, all_repaired: bool) -> None:
        """Wait until it is ready for Krita; where not `all_repaired`, until it serves. Raises CheckError."""

    def confirm(self, *, repaired: bool) -> None:
        """Check the state of the whole instance, so that a heal and the state never differ.

        Where something was `repaired`, the state may take a moment to follow. Raises CheckError unless it is `ready`,
        or changing.
        """


@dataclass
class HealRun:
    """The state of a heal: what it has found and done so far. A report can be made of it at any time."""

    facts: dict[str, Any]
    dry_run: bool = False
    started: float = field(default_factory=time.time)
    found: list[tuple[str, Sequence[Damage]]] = field(default_factory=list)
    plan: Plan | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    errors: list[GessoError] = field(default_factory=list)  # those that belong to no damage
    restarted: int = 0

    @property
    def damages(self) -> list[Damage]:
        """All damages, in the order of the parts."""
        return [damage for _, damages in self.found for damage in damages]

    @property
    def code(self) -> int:
        """The exit code."""
        if self.dry_run:
            return 1 if self.damages or self.errors else 0
        codes = [o.code or 1 for o in self.outcomes if o.state == "failed"]
        codes += [error.exit_code for error in self.errors]
        attempted = {id(o.damage) for o in self.outcomes}
        codes += [1 for damage in self.damages if id(damage) not in attempted]
        return codes[0] if codes else 0

    def summary(self) -> str:
        """Return a summary in one sentence."""
        if not self.damages and self.errors and not self.restarted:
            return "; ".join(error.message for error in self.errors)
        if not self.damages and not self.errors:
            restart = "; ComfyUI was restarted, because an interrupted heal had left that restart pending"
            return f"nothing is wrong{restart * bool(self.restarted)}"
        number = len(self.damages)
        things = f"{number} thing{'s' * (number != 1)}"
        if self.dry_run:
            return f"{things} to repair; nothing was changed"
        repaired = sum(o.state == "repaired" for o in self.outcomes)
        left = sum(o.state == "left" for o in self.outcomes)
        clauses = [f"{things} found", f"{repaired} repaired"]
        clauses += [f"{left} left as it is"] * bool(left)
        clauses += [f"{number - repaired - left} not repaired"] * (number > repaired + left)
        clauses += ["ComfyUI was restarted" if self.restarted else "ComfyUI was not restarted"]
        clauses += [error.message for error in self.errors]
        return ", ".join(clauses)

    def report(self, code: int | None = None) -> dict[str, Any]:
        """Return the report, in its public format."""
        outcomes = {id(outcome.damage): outcome for outcome in self.outcomes}
        rows = [
            outcomes[id(d)].as_json() if id(d) in outcomes else {
                **d.as_json(), "outcome": "planned" if self.dry_run and d.repairable else "not repaired",
                "why": "", "next": d.next_step,
            } for d in self.damages
        ]  # fmt: skip
        ended = time.time()
        code = self.code if code is None else code
        return {
            "format": 1, **self.facts, "dry_run": self.dry_run, "begun": round(self.started), "ended": round(ended),
            "seconds": round(ended - self.started, 1), "ok": code == 0, "code": code,
            "summary": "interrupted; run it again" if code == INTERRUPTED else self.summary(), "damages": rows,
            "restarted": self.restarted, "fetched": sum(outcome.received for outcome in self.outcomes),
            "troubles": [{"why": error.message, "next": error.next_step} for error in self.errors],
        }  # fmt: skip


def heal(
    parts: Sequence[Part],
    service: Service,
    on_event: OnEvent,
    heal_run: HealRun,
    release: Callable[[], None] = lambda: None,
) -> None:
    """Heal; `heal_run` holds the state, also where this is interrupted.

    `release` is called after the last repair and before waiting for ComfyUI, so that other processes can continue.
    """
    for part in parts:
        _examine(part, on_event, heal_run)
    repair_plan = heal_run.plan = plan(heal_run.found, is_up=service.is_up(), restart_pending=service.restart_pending())
    on_event("planned", steps=[_planned(damage) for damage in heal_run.damages], fetch_bytes=repair_plan.fetch_bytes,
         restart=repair_plan.has_restart)  # fmt: skip
    if not heal_run.dry_run:
        _prepare(repair_plan, service, on_event, heal_run)
        by_name = {part.what: part for part in parts}
        for step in repair_plan.steps:
            if step.action == "restart":
                _restart(service, on_event, heal_run)
            else:
                _repair(by_name[step.part], step, on_event, heal_run)
        release()
        all_repaired = heal_run.code == 0
        if repair_plan.steps and (all_repaired or heal_run.restarted):
            _attempt(lambda: service.wait_ready(on_event, all_repaired=all_repaired), heal_run)
    if heal_run.code == 0:
        repaired = bool(repair_plan.steps) and not heal_run.dry_run
        _attempt(lambda: service.confirm(repaired=repaired), heal_run)


def _prepare(repair_plan: Plan, service: Service, on_event: OnEvent, heal_run: HealRun) -> None:
    """Record what cannot be repaired, and what must not be forgotten or started before the rest is."""
    for damage in heal_run.damages:
        if not damage.repairable:
            _record_outcome(Outcome(damage, "failed", damage.found, damage.next_step, code=1), on_event, heal_run)
    if repair_plan.has_restart:
        service.mark_restart_pending()
    if repair_plan.prevent_start:
        _attempt(service.prevent_start, heal_run)


def _examine(part: Part, on_event: OnEvent, heal_run: HealRun) -> None:
    on_event("examining", what=part.what)
    last_event = time.monotonic()

    def on_bytes(done: int, size: int | None) -> None:
        nonlocal last_event
        if time.monotonic() - last_event > 0.5:
            last_event = time.monotonic()
            on_event("progress", what=part.what, done=done, size=size)

    try:
        damages = part.examine(on_bytes)
    except GessoError as error:
        heal_run.errors.append(error)
        on_event("failed", kind=part.what, name="examination", why=error.message, next=error.next_step)
        return
    heal_run.found.append((part.what, damages))
    for damage in damages:
        on_event("found", damage=damage.as_json())


def _planned(damage: Damage) -> dict[str, Any]:
    fields = damage.as_json()
    return {key: fields[key] for key in ("kind", "name", "found", "remedy", "restart", "offline", "size", "repairable")}


def _repair(part: Part, step: Step, on_event: OnEvent, heal_run: HealRun) -> None:
    for damage in step.damages:
        on_event("repairing", kind=damage.kind, name=damage.name, remedy=damage.remedy)
    try:
        outcomes = part.repair(step.damages, on_event)
    except GessoError as error:
        outcomes = [Outcome.failed(damage, error) for damage in step.damages]
    for outcome in outcomes:
        _record_outcome(outcome, on_event, heal_run)


def _record_outcome(outcome: Outcome, on_event: OnEvent, heal_run: HealRun) -> None:
    heal_run.outcomes.append(outcome)
    damage = outcome.damage
    if outcome.state == "failed":
        on_event("failed", kind=damage.kind, name=damage.name, why=outcome.why, next=outcome.next_step)
    else:
        on_event(outcome.state, kind=damage.kind, name=damage.name, said=outcome.why or damage.remedy)


def _restart(service: Service, on_event: OnEvent, heal_run: HealRun) -> None:
    broken = [o.damage for o in heal_run.outcomes if o.state == "failed" and o.damage.restart and o.damage.repairable]
    if broken and service.is_up():  # the code in its memory still works; a restart might fail
        names = ", ".join(damage.name for damage in broken)
        heal_run.errors.append(
            CheckError(f"ComfyUI was not restarted: {names} could not be repaired", "run the heal again")
        )
        return
    if _attempt(lambda: service.restart(on_event), heal_run):
        heal_run.restarted += 1


def _attempt(act: Callable[[], None], heal_run: HealRun) -> bool:
    try:
        act()
    except GessoError as error:
        heal_run.errors.append(error)
        return False
    return True
