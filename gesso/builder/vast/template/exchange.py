"""Publish a template: nothing where it is up to date; else create, read back, then remove the older ones.

What Vast.ai lists in the end decides, never a single response.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gesso.builder.vast.api import RETRY_LATER, UnconfirmedError
from gesso.builder.vast.template.difference import differing_fields
from gesso.builder.vast.template.model import Template, marker
from gesso.builder.vast.template.records import Record
from gesso.builder.vast.template.service import IN_USE, TemplateClient, TemplateRow
from gesso.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_READ_ATTEMPTS = 3  # of a new template, three seconds apart: lists can be late
State = Literal["unchanged", "created", "changed"]


@dataclass(frozen=True)
class ImageInfo:
    """What a record has besides the template: the architecture, and the image's bytes, pulled and on disk."""

    arch: str
    compressed: int
    unpacked: int


@dataclass(frozen=True)
class Existing:
    """The templates at Vast.ai with the searched names."""

    equal: TemplateRow | None
    older: tuple[TemplateRow, ...]  # with gesso's mark for this architecture; their owner is not checked yet
    unmarked: tuple[TemplateRow, ...]  # same name without gesso's mark: never touched


def classify(rows: Sequence[TemplateRow], template: Template, arch: str, record: Record | None) -> Existing:
    """Sort rows by what they are. Of several equal ones, the recorded one is chosen, else the first. Pure."""
    body, mark = template.body(), marker(arch)
    marked = [row for row in rows if str(row.fields.get("desc") or "").endswith(mark)]
    equal = [row for row in marked if not differing_fields(row.fields, body)]
    recorded = [row for row in equal if record is not None and row.number == record.id]
    chosen = next(iter([*recorded, *equal]), None)
    kept = record.kept if record is not None else ()
    older = tuple(row for row in marked if row is not chosen and row.number not in kept)
    return Existing(chosen, older, tuple(row for row in rows if row not in marked))


def search_names(template: Template, record: Record | None) -> list[str]:
    """Return the names to search: a renamed template is found by its old name, too."""
    return list(dict.fromkeys([template.name, *([record.name] if record is not None else [])]))


def publish(
    client: TemplateClient, template: Template, info: ImageInfo, record: Record | None,
    save: Callable[[Record], object], on_progress: Callable[[str], None],
) -> tuple[State, Record, tuple[int, ...]]:  # fmt: skip
    """Publish a template; return what was done, its record, and the numbers of those removed.

    `save` gets the record as soon as the template is read back, and again when older ones stay. Raises PublishError.
    """
    arch = info.arch
    existing = classify(client.find(search_names(template, record)), template, arch, record)
    for row in existing.unmarked:
        on_progress(f"vast: note: template {row.number} has the same name, but was not created by gesso: left alone")
    owned = {row.number for row in _owned(client, existing.older)}
    state: State = "unchanged"
    current = existing.equal
    if current is None:
        state = "changed" if owned else "created"
        current = _create(client, template, arch, existing, on_progress)
    kept = tuple(sorted(record.kept)) if record is not None else ()
    found = Record(arch=arch, name=template.name, hash_id=current.hash_id, id=current.number, content=template.sha256,
                   image=template.image, compressed=info.compressed, unpacked=info.unpacked, kept=kept)  # fmt: skip
    save(found)
    removed = []
    for row in existing.older:
        if row.number not in owned or row.number == current.number:
            continue
        if _remove(client, row, current, on_progress):
            removed.append(row.number)
        else:
            kept = tuple(sorted({*kept, row.number}))
            found = found.model_copy(update={"kept": kept})
            save(found)
    return state, found, tuple(removed)


def _owned(client: TemplateClient, rows: Sequence[TemplateRow]) -> list[TemplateRow]:
    """Return those of this key's account. A public template of another account may carry gesso's mark."""
    if not rows:
        return []
    account = client.account_id()
    return [row for row in rows if row.creator in {None, account}]


def _create(
    client: TemplateClient, template: Template, arch: str, before: Existing, on_progress: Callable[[str], None]
) -> TemplateRow:
    """Create the template, and return it as read back.

    Raises PublishError where it is missing or differs, whatever the response was.
    """
    what = f"template {template.name!r}"
    unconfirmed: UnconfirmedError | None = None
    number: int | None = None
    on_progress(f"vast: creating {what}")
    try:
        number = client.create(template)
    except UnconfirmedError as error:
        unconfirmed = error
        on_progress(f"vast: {error.message}: checking")
    known = {row.number for row in (*before.older, *before.unmarked)}
    other: TemplateRow | None = None
    for _ in range(_READ_ATTEMPTS):
        rows = _list_templates(client, template)
        if (found := classify(rows, template, arch, None).equal) is not None:
            return found
        created = (row for row in rows if row.number == number or (unconfirmed and row.number not in known))
        if (other := next(created, other)) is not None:
            break
    if other is not None:
        fields = ", ".join(sorted(differing_fields(other.fields, template.body())))
        raise PublishError(
            f"{what}: created as {other.number}, but reads back different: {fields}; the older one stays",
            f"see {other.number} in Vast.ai's console: the service changed what was sent",
        )
    if unconfirmed is not None:
        raise PublishError(f"{what}: not created: {unconfirmed.message.removeprefix(f'{what}: ')}", RETRY_LATER)
    raise PublishError(f"{what}: Vast.ai reported success, but does not list it; the older one stays", RETRY_LATER)


def _list_templates(client: TemplateClient, template: Template) -> list[TemplateRow]:
    try:
        return client.find([template.name])
    except PublishError as error:
        raise PublishError(
            f"template {template.name!r}: requested, but it cannot be checked whether it exists: {error.message}",
            "run this again: it checks first",
        ) from None


def _remove(client: TemplateClient, row: TemplateRow, current: TemplateRow, on_progress: Callable[[str], None]) -> bool:
    """Remove an older one; return whether it is gone: Vast.ai keeps those in use by others.

    Raises PublishError where it remains for another reason.
    """
    on_progress(f"vast: removing the older template {row.number}")
    try:
        client.remove(row.number)
    except UnconfirmedError as error:
        on_progress(f"vast: {error.message}: checking")
        if row.number not in {other.number for other in client.find([str(row.fields["name"])])}:
            return True
        raise _removal_error(row, current, error) from None
    except PublishError as error:
        if IN_USE in error.message:
            on_progress(f"vast: template {row.number} stays: in use by others")
            return False
        raise _removal_error(row, current, error) from None
    return True


def _removal_error(row: TemplateRow, current: TemplateRow, error: PublishError) -> PublishError:
    return PublishError(
        f"the new template ({current.number}) is published, but the older {row.number} was not removed: "
        f"{error.message}",
        "run this again: it removes the older one",
    )
