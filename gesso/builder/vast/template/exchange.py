"""Bring Vast.ai to what is wanted: nothing where it is so; else the new one first, read back, then the old away.

Whatever happens on the way, what Vast.ai lists in the end decides, never what a single answer says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gesso.builder.vast.api import LATER, UnansweredError
from gesso.builder.vast.template.difference import differing
from gesso.builder.vast.template.model import Template, marker
from gesso.builder.vast.template.records import Record
from gesso.builder.vast.template.service import IN_USE, Row, Templates
from gesso.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_READS = 3  # times that a new template is looked for: each is three seconds after the last
State = Literal["unchanged", "created", "changed"]


@dataclass(frozen=True)
class About:
    """What a record says beside the template: the architecture, and the image's bytes, pulled and on disk."""

    arch: str
    compressed: int
    unpacked: int


@dataclass(frozen=True)
class View:
    """What Vast.ai has under the names in question, sorted out."""

    equal: Row | None
    older: tuple[Row, ...]  # of gesso's making for this architecture; whose they are is not known yet
    strangers: tuple[Row, ...]  # of the same name, without gesso's mark: left alone


def sort_out(rows: Sequence[Row], wanted: Template, arch: str, record: Record | None) -> View:
    """Tell what is there. Of several that are equal, the recorded one counts, else the first. Pure."""
    body, mark = wanted.body(), marker(arch)
    marked = [row for row in rows if str(row.fields.get("desc") or "").endswith(mark)]
    equal = [row for row in marked if not differing(row.fields, body)]
    recorded = [row for row in equal if record is not None and row.number == record.id]
    chosen = next(iter([*recorded, *equal]), None)
    kept = record.kept if record is not None else ()
    older = tuple(row for row in marked if row is not chosen and row.number not in kept)
    return View(chosen, older, tuple(row for row in rows if row not in marked))


def names(wanted: Template, record: Record | None) -> list[str]:
    """Give the names to look for: a template that was renamed is found under its old one, too."""
    return list(dict.fromkeys([wanted.name, *([record.name] if record is not None else [])]))


def exchange(
    service: Templates, wanted: Template, about: About, record: Record | None, keep: Callable[[Record], object],
    say: Callable[[str], None],
) -> tuple[State, Record, tuple[int, ...]]:  # fmt: skip
    """Publish a template; give what was done, the record of it, and the numbers of those removed.

    `keep` is given the record as soon as the template is proven, and again when older ones stay. Raises PublishError.
    """
    arch = about.arch
    view = sort_out(service.named(names(wanted, record)), wanted, arch, record)
    for row in view.strangers:
        say(f"vast: note: template {row.number} has the same name and is not of gesso's making; it is left alone")
    mine = {row.number for row in _own(service, view.older)}
    state: State = "unchanged"
    proven = view.equal
    if proven is None:
        state = "changed" if mine else "created"
        proven = _make(service, wanted, arch, view, say)
    kept = tuple(sorted(record.kept)) if record is not None else ()
    found = Record(arch=arch, name=wanted.name, hash_id=proven.hash_id, id=proven.number, content=wanted.sha256,
                   image=wanted.image, compressed=about.compressed, unpacked=about.unpacked, kept=kept)  # fmt: skip
    keep(found)
    removed = []
    for row in view.older:
        if row.number not in mine or row.number == proven.number:
            continue
        if _remove(service, row, proven, say):
            removed.append(row.number)
        else:
            kept = tuple(sorted({*kept, row.number}))
            found = found.model_copy(update={"kept": kept})
            keep(found)
    return state, found, tuple(removed)


def _own(service: Templates, rows: Sequence[Row]) -> list[Row]:
    """Give those that this key's account made. A public template of another account may carry gesso's mark."""
    if not rows:
        return []
    me = service.myself()
    return [row for row in rows if row.creator in {None, me}]


def _make(service: Templates, wanted: Template, arch: str, before: View, say: Callable[[str], None]) -> Row:
    """Make the template, and give it as it reads back.

    Raises PublishError where it is not there as wanted, whatever the answer was.
    """
    what = f"template {wanted.name!r}"
    unsure: UnansweredError | None = None
    number: int | None = None
    say(f"vast: making {what}")
    try:
        number = service.create(wanted)
    except UnansweredError as error:
        unsure = error
        say(f"vast: {error.message}: looking")
    known = {row.number for row in (*before.older, *before.strangers)}
    other: Row | None = None
    for _ in range(_READS):
        rows = _look(service, wanted)
        if (found := sort_out(rows, wanted, arch, None).equal) is not None:
            return found
        made = (row for row in rows if row.number == number or (unsure and row.number not in known))
        if (other := next(made, other)) is not None:
            break
    if other is not None:
        wrong = ", ".join(sorted(differing(other.fields, wanted.body())))
        raise PublishError(
            f"{what}: it was made (number {other.number}) and reads back different: {wrong}; the older one stays",
            f"see {other.number} in Vast.ai's console: the service changed what it was given",
        )
    if unsure is not None:
        raise PublishError(f"{what}: it is not there: {unsure.message.removeprefix(f'{what}: ')}", LATER)
    raise PublishError(f"{what}: Vast.ai says that it was made, and does not have it; the older one stays", LATER)


def _look(service: Templates, wanted: Template) -> list[Row]:
    try:
        return service.named([wanted.name])
    except PublishError as error:
        raise PublishError(
            f"template {wanted.name!r}: it was asked for, and whether it is there cannot be seen: {error.message}",
            "run this again: it looks first",
        ) from None


def _remove(service: Templates, row: Row, proven: Row, say: Callable[[str], None]) -> bool:
    """Remove an older one; tell whether it is gone: Vast.ai keeps what others use.

    Raises PublishError where it is still there for another reason.
    """
    say(f"vast: removing the older template {row.number}")
    try:
        service.remove(row.number)
    except UnansweredError as error:
        say(f"vast: {error.message}: looking")
        if row.number not in {other.number for other in service.named([str(row.fields["name"])])}:
            return True
        raise _stays(row, proven, error) from None
    except PublishError as error:
        if IN_USE in error.message:
            say(f"vast: template {row.number} stays: others use it")
            return False
        raise _stays(row, proven, error) from None
    return True


def _stays(row: Row, proven: Row, error: PublishError) -> PublishError:
    return PublishError(
        f"the new template ({proven.number}) is published, but the older {row.number} is still there: {error.message}",
        "run this again: it removes what is left",
    )
