"""Audit an instance without SSH: compare its models' sizes, by `ls`, with the lock's. For gesso images only.

Sizes prove nothing: a file of the right size may have other content. Removing and rebooting is a repair all the same:
the boot of a gesso image hashes every file before it is used.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from gesso.builder.vast.instances import MAX_COMMAND
from gesso.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gesso.builder.vast.instances import Instance, InstanceClient
    from gesso.manifest.schema import Model

MODELS = "/workspace/models"
RECORD = "/opt/gesso/build.json"  # every gesso image has it: a listing without it is rejected
_LS = "ls -lLnd"
_STUB = 0.01  # of the lock's size: less is a stub, as in `gesso verify`
# mode, links, owner, group, size, then the date in two or three words, and the path
_ROW = re.compile(r"(?P<kind>[-bcdlps])[-rwxsStT.+@]{9,11}\s+\d+\s+\d+\s+\d+\s+(?P<size>\d+)\s+\S.*?\s(?P<path>/\S+)\Z")

State = Literal["size only", "unknown size", "unconfirmed size", "missing", "stub", "wrong size", "no file"]


@dataclass(frozen=True)
class SizeCheck:
    """The result for one model: sizes in bytes, None where unknown."""

    name: str
    tier: str
    state: State
    size: int | None
    locked: int | None
    confirmed: bool = False

    @property
    def bad(self) -> bool:
        """True where the file cannot be the locked one, and may be removed."""
        return self.state in {"stub", "wrong size"}

    @property
    def unusable(self) -> bool:
        """True where the model cannot be used."""
        return self.bad or self.state in {"missing", "no file"}

    def __str__(self) -> str:
        actual = f"{self.size:,} bytes" if self.size is not None else ""
        doubt = "" if self.confirmed or self.state == "size only" else " (unconfirmed)"
        expected = f"the lock says {self.locked:,}{doubt}" if self.locked is not None else "the lock has no size"
        text = {
            "size only": f"{actual}, as the lock says; size only: its content was not hashed",
            "unknown size": f"{actual}; {expected}: cannot be checked",
            "unconfirmed size": f"{actual}, {expected}: cannot tell: the lock's size is unconfirmed",
            "missing": f"missing; {expected}",
            "stub": f"a stub: {actual}, {expected}",
            "wrong size": f"wrong size: {actual}, {expected}",
            "no file": "not a regular file",
        }
        return f"{self.name}: {text[self.state]}"


def commands(paths: Iterable[str], verb: str = _LS, first: str = RECORD) -> list[str]:
    """Distribute paths over commands that are short enough for Vast.ai; `first` is in each. Pure."""
    begin = f"{verb} {first}".rstrip()
    found = [begin]
    for path in paths:
        longer = f"{found[-1]} {path}"
        if len(longer) <= MAX_COMMAND:
            found[-1] = longer
        else:
            found.append(f"{begin} {path}")
    return [text for text in found if text != begin] or [begin]


def rows(text: str) -> dict[str, tuple[str, int]]:
    """Read `ls -ln`: kind (`-` is a file) and size in bytes, by path. Pure."""
    matches = (_ROW.match(line.strip()) for line in text.splitlines())
    return {match["path"]: (match["kind"], int(match["size"])) for match in matches if match}


def compare(model: Model, row: tuple[str, int] | None) -> SizeCheck:
    """Compare a model with its row of `ls`. Pure."""
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
    elif size < _STUB * model.size:
        state = "stub"
    else:  # a hint is no proof against a file, which may be the right one
        state = "wrong size" if model.size_confirmed else "unconfirmed size"
    return SizeCheck(model.name, model.tier, state, size, model.size, model.size_confirmed)


def check_sizes(vast: InstanceClient, instance: Instance, models: Sequence[Model]) -> list[SizeCheck]:
    """Check the size of every model in an instance.

    Raises CheckError where it is no gesso image, or the output of `ls` is unreadable; PublishError.
    """
    listed: dict[str, tuple[str, int]] = {}
    for text in commands(path_of(model.name) for model in models):
        output = vast.command(instance.number, text)
        found = rows(output)
        if RECORD not in found:
            raise CheckError(
                f"instance {instance.number} ({instance.image or 'unknown image'}) is no gesso image: "
                f"{RECORD} is missing" if _is_readable(output) else
                f"instance {instance.number}: the output of `ls` is unreadable: {output.strip()[:120] or 'empty'}",
                "without SSH only gesso images can be healed, because their boot verifies the models; "
                f"with SSH: `invoke heal --instance {instance.number} --arch NAME`",
            )  # fmt: skip
        listed |= found
    return [compare(model, listed.get(path_of(model.name))) for model in models]


def _is_readable(output: str) -> bool:
    return bool(rows(output)) or "No such file" in output


def path_of(name: str) -> str:
    """Return a model's path in a gesso image."""
    return f"{MODELS}/{name}"


@dataclass(frozen=True)
class Audit:
    """The result: sizes before, models removed, and whether the instance was rebooted."""

    seen: tuple[SizeCheck, ...]
    removed: tuple[str, ...] = ()
    rebooted: bool = False

    @property
    def wrong(self) -> bool:
        """True where a model is bad, or a required one is missing."""
        return any(seen.bad or (seen.unusable and seen.tier == "required") for seen in self.seen)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"ok": not self.wrong, "models": [{**asdict(seen), "text": str(seen)} for seen in self.seen],
                "removed": list(self.removed), "rebooted": self.rebooted}  # fmt: skip


def heal(
    vast: InstanceClient,
    instance: Instance,
    models: Sequence[Model],
    *,
    apply: bool,
    on_progress: Callable[[str], None],
) -> Audit:
    """Audit; with `apply` remove bad files, check that they are gone, and reboot: the boot fetches and verifies.

    Raises CheckError and PublishError.
    """
    seen = check_sizes(vast, instance, models)
    before = Audit(tuple(seen))
    if not apply or not before.wrong:
        return before
    bad = [found.name for found in seen if found.bad]
    for text in commands((path_of(name) for name in bad), "rm", "") if bad else ():
        on_progress(f"vast: {text}")
        vast.command(instance.number, text)
    if bad:
        still = [
            found.name
            for found in check_sizes(vast, instance, models)
            if found.name in bad and found.state != "missing"
        ]
        if still:
            raise CheckError(
                f"instance {instance.number}: {', '.join(still)}: still exists after `rm`; not rebooted",
                f"use SSH: `invoke heal --instance {instance.number}`",
            )
    on_progress(f"vast: rebooting instance {instance.number}")
    vast.reboot(instance.number)
    return Audit(before.seen, tuple(bad), rebooted=True)
