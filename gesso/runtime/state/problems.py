"""What is wrong, grouped by cause: one problem for ten models that fail in the same way. Pure.

Each has words for an artist, who has never seen a terminal, and for the operator of the instance.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gesso.runtime.state.state import Facts, ModelFact, Trouble, judge

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHOWN = 3  # different reasons and steps of one problem
_LOGIN, _BUSY, _DISK, _CONTENT, _FAILED = range(5)
_KINDS = {
    "needs-token": _LOGIN, "bad-token": _LOGIN, "gated": _LOGIN, "forbidden": _LOGIN,
    "rate-limited": _BUSY, "server-error": _BUSY, "unreachable": _BUSY, "stalled": _BUSY, "cut-off": _BUSY,
    "disk-full": _DISK,
    "html": _CONTENT, "json": _CONTENT, "lfs-pointer": _CONTENT, "pickle": _CONTENT, "stub": _CONTENT,
    "truncated": _CONTENT, "oversized": _CONTENT, "malformed": _CONTENT, "wrong-size": _CONTENT,
    "wrong-family": _CONTENT, "wrong-hash": _CONTENT, "changed": _CONTENT,
}  # fmt: skip
_LOCAL = {"disk-full", "read-only", "io-error", "in-the-way", "changed-under-us"}
_CAUSES = {"disk-full": "not enough disk space", "not-found": "not found", "unreachable": "no connection"}
_SAYS = {
    _LOGIN: "The server that has {them}{host} requires a login, or a licence to be accepted.",
    _BUSY: "The server that has {them}{host} cannot be reached or is busy. This often ends by itself.",
    _DISK: "The disk of this instance is too small for {them}.",
    _CONTENT: "The server that has {them}{host} offers something else than expected; it is not used.",
}
_GONE = "The server that has {them}{host} says that {they} not there."
_DAMAGED_DISK = "The disk of this instance refuses {them}."
_OTHERWISE = "The reason is below, for the operator."
_RETRIED = "The download is tried again automatically."
_ASK = "Waiting will probably not help: show the lines for the operator to whoever runs this instance."


@dataclass(frozen=True)
class Problem:
    """One cause, and what it affects: `count` things, `names` of models.

    `artist` is for the user of Krita; `operator` and `next` say what exactly happened, and what to do.
    """

    cause: str
    count: int
    names: tuple[str, ...]
    artist: str
    operator: str
    next: str


def find(facts: Facts) -> tuple[Problem, ...]:
    """Return the problems: what keeps Krita from working first, then the models, then what was changed."""
    found = [*_services(facts), *_models(facts)]
    if not found and (verdict := judge(facts)).state == "failed":  # the models, and none of them by name
        found = [_of_instance(Trouble(verdict.why, verdict.next_step), f"The models could not be downloaded. {_ASK}")]
    return (*found, *_changes(facts))


def _services(facts: Facts) -> Iterable[Problem]:
    """Return what would still be wrong if every model were here."""
    models = tuple(replace(model, stage="verified", trouble=None) for model in facts.models)
    rest = judge(replace(facts, models=models, models_known=True, fetch_trouble=None, drift=()))
    if rest.state == "failed":
        part = "This instance" if facts.up and not facts.missing else "ComfyUI, the program that makes the images,"
        artist = f"{part} does not work as it should. Show the lines for the operator to whoever runs this instance."
        yield _of_instance(Trouble(rest.why, rest.next_step), artist)


def _of_instance(trouble: Trouble, artist: str) -> Problem:
    return Problem(trouble.why, 1, (), artist, trouble.why, trouble.next_step)


def _models(facts: Facts) -> Iterable[Problem]:
    groups: dict[str, list[tuple[ModelFact, Trouble]]] = defaultdict(list)
    for model in facts.models:
        if (trouble := _trouble(model, facts.fetch_trouble)) is not None:
            groups[_cause(model, trouble)].append((model, trouble))
    ordered = sorted(groups.items(), key=lambda item: (not _required(item[1]), -len(item[1])))
    return (_problem(cause, found) for cause, found in ordered)


def _trouble(model: ModelFact, whole: Trouble | None) -> Trouble | None:
    """Return why a model is missing, if it does not just take its turn; `whole` prevented the fetch of all."""
    if model.stage == "verified":
        return None
    if model.trouble is not None:
        return model.trouble
    if model.stage == "left-out":
        return Trouble(model.message or "left out", "make room, or take a larger disk", "disk-full")
    if whole is None or model.stage != "waiting":
        return None
    return whole if whole.fault or "do not fit" not in whole.why else replace(whole, fault="disk-full")


def _cause(model: ModelFact, trouble: Trouble) -> str:
    """Return the cause, without what differs from one model to the next, such as names, sizes and hashes."""
    if not trouble.fault:
        return trouble.why
    host = model.source if trouble.fault not in _LOCAL else ""
    status = re.search(rf"{re.escape(host)}: HTTP (\d{{3}})\b", trouble.why) if host else None
    label = f"HTTP {status[1]}" if status else _CAUSES.get(trouble.fault, trouble.fault.replace("-", " "))
    return f"{label} from {host}" if host else label


def _required(found: list[tuple[ModelFact, Trouble]]) -> bool:
    return any(model.tier == "required" for model, _ in found)


def _problem(cause: str, found: list[tuple[ModelFact, Trouble]]) -> Problem:
    return Problem(
        cause, len(found), tuple(model.name for model, _ in found), _for_artist(found),
        _joined(trouble.why for _, trouble in found),
        _joined(trouble.next_step for _, trouble in found),
    )  # fmt: skip


def _for_artist(found: list[tuple[ModelFact, Trouble]]) -> str:
    model, trouble = found[0]
    one, fault = len(found) == 1, trouble.fault
    text = _GONE if fault in {"not-found", "gone"} else _SAYS.get(_KINDS.get(fault, _FAILED), _OTHERWISE)
    text = _DAMAGED_DISK if fault in _LOCAL - {"disk-full"} else text
    says = text.format(
        them="it" if one else "them",
        they="it is" if one else "they are",
        host=f" ({model.source})" * bool(model.source),
    )
    count = "A model" if one else f"{len(found)} models"
    use = "Krita needs {} to work." if _required(found) else "Krita can work without {}."
    again = _RETRIED if _KINDS.get(fault, _FAILED) in {_BUSY, _FAILED} and fault not in {"not-found", "gone"} else _ASK
    return f"{count} could not be downloaded. {says} {use.format('it' if one else 'them')} {again}"


def _joined(texts: Iterable[str]) -> str:
    """Join different texts, the first few of them."""
    different = list(dict.fromkeys(filter(None, texts)))
    more = len(different) - _SHOWN
    return "; ".join([*different[:_SHOWN], *([f"and {more} more"] if more > 0 else [])])


def _changes(facts: Facts) -> Iterable[Problem]:
    if facts.drift:
        yield Problem(
            "the instance was changed", len(facts.drift), (),
            "Something in this instance is not as it was made. Krita can work; Self-Heal on this page repairs it.",
            _joined(facts.drift), "repair it with the button on the page, or `gesso heal`",
        )  # fmt: skip
