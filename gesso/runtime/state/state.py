"""The state of an instance, the reason, and what to do next: a pure function of plain facts.

`ready` means that Krita can work: this instance answers through the public port, its node classes exist, the required
models are verified, the workflows are published. `degraded` means ready, but an optional model is missing and not being
fetched, or something drifted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Name = Literal["booting", "fetching", "starting", "ready", "degraded", "failed"]
Stage = Literal["verified", "checking", "fetching", "waiting", "failed", "left-out"]
USABLE = {"ready", "degraded"}  # the states in which Krita can work
MAX_IDLE_STARTS = 3  # consecutive failed starts of ComfyUI before the state is `failed`
_GIVEN_UP = {"FATAL", "STOPPED", "UNKNOWN"}


@dataclass(frozen=True)
class Trouble:
    """What is wrong, as text, and what a person can do about it; `fault` is the kind (models.faults), if known."""

    why: str
    next_step: str = ""
    fault: str = ""


@dataclass(frozen=True)
class ModelFact:
    """The current state of one model: bytes, bytes per second, seconds left; `trouble` if its last attempt failed."""

    name: str
    tier: str
    stage: Stage
    size: int | None = None
    done: int = 0
    rate: float = 0.0
    left: float | None = None
    source: str = ""
    message: str = ""
    trouble: Trouble | None = None
    license: str = ""


@dataclass(frozen=True)
class Progress:
    """How far the models are that Krita waits for: bytes, bytes per second, seconds left (None: unknown)."""

    done: int = 0
    size: int = 0
    rate: float = 0.0
    left: float | None = None

    @property
    def percent(self) -> int | None:
        """Whole percent, 100 only at the end; None if no size is known."""
        if not self.size:
            return None
        return 100 if self.done >= self.size else min(99, 100 * self.done // self.size)


@dataclass(frozen=True)
class Facts:
    """What the agent knows. `missing`: node classes that ComfyUI lacks, None until it was queried.

    `gate_up`: this very instance answered through the public port. `port_trouble`: ComfyUI's own port is another
    program's, or is open to the network.
    """

    models_known: bool = False
    models: tuple[ModelFact, ...] = ()
    fetch_trouble: Trouble | None = None
    process: str = ""
    refused: Trouble | None = None
    idle_starts: int = 0
    up: bool = False
    missing: tuple[str, ...] | None = None
    published: bool = False
    publish_trouble: Trouble | None = None
    drift: tuple[str, ...] = ()
    gate_up: bool = False
    gate_trouble: Trouble | None = None
    port_trouble: Trouble | None = None


@dataclass(frozen=True)
class Verdict:
    """The state; `why` and `next_step` for people, `notes` for what does not keep Krita from working."""

    state: Name
    why: str
    next_step: str = ""
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether Krita can work."""
        return self.state in USABLE


def progress(models: Sequence[ModelFact]) -> Progress:
    """Return the progress of the required models, verified ones included: it never falls when one is finished."""
    required = [model for model in models if model.tier == "required"]
    sizes = [max(model.size or 0, model.done) for model in required]
    done = sum(size if m.stage == "verified" else m.done for m, size in zip(required, sizes, strict=True))
    rate, size = sum(model.rate for model in required), sum(sizes)
    return Progress(done, size, rate, (size - done) / rate if rate else None)


def judge(facts: Facts) -> Verdict:
    """Return the state that follows from the facts."""
    failed = _failure(facts)
    if failed is not None:
        return Verdict("failed", failed.why, failed.next_step)
    return _waiting(facts) or _usable(facts)


def _waiting(facts: Facts) -> Verdict | None:
    """Return what Krita still has to wait for, if anything."""
    unverified = [m for m in facts.models if m.tier == "required" and m.stage != "verified"]
    if not facts.models_known:
        return Verdict("booting", "checking what is here")
    if unverified:
        return Verdict("fetching", _to_come(facts, unverified))
    waits = (
        (not facts.up or facts.missing is None, "ComfyUI is starting; every required model is here and verified"),
        (not facts.gate_up, "the gate is starting: the public port does not answer yet"),
        (not facts.published, "publishing the workflows to Krita"),
    )
    return next((Verdict("starting", why) for waiting, why in waits if waiting), None)


def _failure(facts: Facts) -> Trouble | None:
    """Return the first thing that keeps Krita from working and does not resolve by waiting."""
    ports = [trouble for trouble in (facts.gate_trouble, facts.port_trouble) if trouble is not None]
    if ports:
        return Trouble("; ".join(trouble.why for trouble in ports), ports[0].next_step)
    publishing = facts.publish_trouble if facts.up and not facts.published else None
    return _comfyui_failure(facts) or _model_failure(facts) or publishing


def _comfyui_failure(facts: Facts) -> Trouble | None:
    if facts.refused is not None and not facts.up:
        return facts.refused
    if not facts.up and (facts.process in _GIVEN_UP or facts.idle_starts >= MAX_IDLE_STARTS):
        how = {"STOPPED": "is stopped", "UNKNOWN": "is in an unknown state"}.get(facts.process, "does not stay up")
        return Trouble(f"ComfyUI {how}", "`gesso logs comfyui` shows why; it is restarted automatically")
    if not facts.missing:
        return None
    return Trouble(f"ComfyUI lacks node classes that Krita needs: {', '.join(facts.missing)}",
                   "`gesso logs comfyui` shows which node pack failed to import")  # fmt: skip


def _model_failure(facts: Facts) -> Trouble | None:
    required = [m for m in facts.models if m.tier == "required"]
    for model in required:
        if model.stage != "verified" and model.trouble is not None:
            more = sum(m.trouble is not None and m.stage != "verified" for m in required) - 1
            others = f" (and {more} more)" if more else ""
            return Trouble(f"{model.name} is missing: {model.trouble.why}{others}", model.trouble.next_step)
    if facts.models_known and all(m.stage == "verified" for m in required):
        return None
    return facts.fetch_trouble


def _to_come(facts: Facts, unverified: list[ModelFact]) -> str:
    percent = progress(facts.models).percent
    share = f", {min(99, percent)} %" if percent is not None else ""
    comfyui = "ComfyUI is up" if facts.up else "ComfyUI is starting meanwhile"
    return f"{len(unverified)} required model{'s' * (len(unverified) != 1)} to come{share}; {comfyui}"


def _usable(facts: Facts) -> Verdict:
    others = [m for m in facts.models if m.tier != "required" and m.stage != "verified"]
    absent = [m for m in others if m.stage in {"failed", "left-out"} or m.trouble is not None]
    coming = [m for m in others if m not in absent]
    notes = [f"{m.name}: {m.trouble.why if m.trouble else m.message or 'left out'}" for m in absent]
    if coming:
        notes.append(f"{len(coming)} more model{'s' * (len(coming) != 1)} on the way; Krita can work without")
    notes += facts.drift
    if facts.drift and not absent:
        more = f" (and {len(facts.drift) - 1} more)" if len(facts.drift) > 1 else ""
        return Verdict("degraded", f"Krita can work, but the instance was changed: {facts.drift[0]}{more}",
                       "repair it with the button on the page, or `gesso heal`", tuple(notes))  # fmt: skip
    if absent:
        step = next((m.trouble.next_step for m in absent if m.trouble), "make room, or take a larger disk")
        why = f"Krita can work; missing: {', '.join(m.name for m in absent)}"
        return Verdict("degraded", why, step, tuple(notes))
    return Verdict("ready", "Krita can work", notes=tuple(notes))
