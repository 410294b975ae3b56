"""An instance without SSH: what `ls` tells of its models, beside the lock's sizes. For gesso images only.

Sizes prove nothing: a file of the right size may hold other bytes. What removes and restarts is a remedy all the same,
for the boot of a gesso image hashes every file before it is used.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from gesso.builder.vast.instances import LONGEST
from gesso.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gesso.builder.vast.instances import Instance, Vast
    from gesso.manifest.schema import Model

MODELS = "/workspace/models"
RECORD = "/opt/gesso/build.json"  # every gesso image has it: it also shows that an answer is one
_LS = "ls -lLnd"
_STUB = 0.01  # of the size that the lock says: less is a stub, as `gesso verify` calls it
# mode, links, owner, group, size, then the date in two or three words, and the path
_ROW = re.compile(r"(?P<kind>[-bcdlps])[-rwxsStT.+@]{9,11}\s+\d+\s+\d+\s+\d+\s+(?P<size>\d+)\s+\S.*?\s(?P<path>/\S+)\Z")

State = Literal["size only", "unknown size", "missing", "stub", "wrong size", "no file"]


@dataclass(frozen=True)
class Seen:
    """What `ls` told of one model: sizes in bytes, None where there is none."""

    name: str
    tier: str
    state: State
    size: int | None
    locked: int | None

    @property
    def bad(self) -> bool:
        """True where the file cannot be the wanted one, and may go."""
        return self.state in {"stub", "wrong size"}

    @property
    def lacking(self) -> bool:
        """True where the model cannot be used."""
        return self.bad or self.state in {"missing", "no file"}

    def __str__(self) -> str:
        has = f"{self.size:,} bytes" if self.size is not None else ""
        should = f"the lock says {self.locked:,}" if self.locked is not None else "the lock does not say its size"
        told = {
            "size only": f"{has}, as the lock says; size only: its bytes were not hashed",
            "unknown size": f"{has}; {should}: nothing is known of it",
            "missing": f"is not there; {should}",
            "stub": f"a stub: {has}, {should}",
            "wrong size": f"wrong size: {has}, {should}",
            "no file": "something that is no file stands there",
        }
        return f"{self.name}: {told[self.state]}"


def commands(paths: Iterable[str], verb: str = _LS, first: str = RECORD) -> list[str]:
    """Deal paths out to commands that are short enough for Vast.ai; `first` is in each of them. Pure."""
    begin = f"{verb} {first}".rstrip()
    found = [begin]
    for path in paths:
        longer = f"{found[-1]} {path}"
        if len(longer) <= LONGEST:
            found[-1] = longer
        else:
            found.append(f"{begin} {path}")
    return [text for text in found if text != begin] or [begin]


def rows(text: str) -> dict[str, tuple[str, int]]:
    """Read `ls -ln`: kind (`-` is a file) and size in bytes, by path. Pure."""
    matches = (_ROW.match(line.strip()) for line in text.splitlines())
    return {match["path"]: (match["kind"], int(match["size"])) for match in matches if match}


def judge(model: Model, row: tuple[str, int] | None) -> Seen:
    """Compare a model with what `ls` told of it. Pure."""
    state: State
    kind, size = row or ("", None)
    if size is None:
        state = "missing"
    elif kind != "-":
        state, size = "no file", None
    elif model.size is None:
        state = "stub" if size == 0 else "unknown size"
    elif size == model.size:
        state = "size only"
    else:
        state = "stub" if size < _STUB * model.size else "wrong size"
    return Seen(model.name, model.tier, state, size, model.size)


def look(vast: Vast, instance: Instance, models: Sequence[Model]) -> list[Seen]:
    """List every model in an instance.

    Raises CheckError where that is no gesso image, or `ls` gives no answer that can be read; PublishError.
    """
    told: dict[str, tuple[str, int]] = {}
    for text in commands(path_of(model.name) for model in models):
        said = vast.command(instance.number, text)
        found = rows(said)
        if RECORD not in found:
            raise CheckError(
                f"instance {instance.number} ({instance.image or 'unknown image'}) is no gesso image: "
                f"{RECORD} is not in it" if _is_answer(said) else
                f"instance {instance.number}: `ls` gave no answer that can be read: {said.strip()[:120] or 'nothing'}",
                "without SSH only gesso images can be healed, for their boot verifies what is there; "
                f"with it: `invoke heal --instance {instance.number} --arch NAME`",
            )  # fmt: skip
        told |= found
    return [judge(model, told.get(path_of(model.name))) for model in models]


def _is_answer(said: str) -> bool:
    return bool(rows(said)) or "No such file" in said


def path_of(name: str) -> str:
    """Give where a model lies in a gesso image."""
    return f"{MODELS}/{name}"


@dataclass(frozen=True)
class Audit:
    """What was seen, what was removed, and whether the instance was restarted."""

    seen: tuple[Seen, ...]
    removed: tuple[str, ...] = ()
    rebooted: bool = False

    @property
    def wrong(self) -> bool:
        """True where a model is bad, or a required one is missing."""
        return any(seen.bad or (seen.lacking and seen.tier == "required") for seen in self.seen)

    def as_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {"ok": not self.wrong, "models": [{**asdict(seen), "text": str(seen)} for seen in self.seen],
                "removed": list(self.removed), "rebooted": self.rebooted}  # fmt: skip


def heal(vast: Vast, instance: Instance, models: Sequence[Model], *, apply: bool, say: Callable[[str], None]) -> Audit:
    """Audit, and with `apply` remove what is bad, see that it is gone, and reboot: the boot fetches and verifies.

    Raises CheckError and PublishError.
    """
    seen = look(vast, instance, models)
    before = Audit(tuple(seen))
    if not apply or not before.wrong:
        return before
    bad = [found.name for found in seen if found.bad]
    for text in commands((path_of(name) for name in bad), "rm", "") if bad else ():
        say(f"vast: {text}")
        vast.command(instance.number, text)
    if bad:
        still = [found.name for found in look(vast, instance, models) if found.name in bad and found.state != "missing"]
        if still:
            raise CheckError(
                f"instance {instance.number}: {', '.join(still)}: still there after `rm`; nothing was rebooted",
                f"use SSH: `invoke heal --instance {instance.number}`",
            )
    say(f"vast: rebooting instance {instance.number}")
    vast.reboot(instance.number)
    return Audit(before.seen, tuple(bad), rebooted=True)
