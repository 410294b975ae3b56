"""The difference between two locks: lines for a terminal, a page of Markdown for a pull request. All pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal

from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gesso.builder.lock.python_pins import Pin
    from gesso.manifest.lock import Lock, LockedBase, LockedModel, LockedSource

Part = Literal["base", "source", "python", "model"]

_LIMIT = 60_000  # characters: a pull request's body takes 65,536
_SHORT = 12  # digits of a commit or a digest, for display
_PARTS: dict[Part, str] = {"base": "Base image", "source": "Sources", "python": "Python", "model": "Models"}
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_REPOSITORY = re.compile(r"https://(?P<host>github\.com|gitlab\.com)/[\w.-]+(?:/[\w.-]+)+", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Change:
    """One entry that was added (`old` is None), removed (`new` is None) or changed; `note`: what the two do not show.

    `old` and `new` are for display; `link` is the page that shows the difference.
    """

    part: Part
    name: str
    old: str | None
    new: str | None
    note: str = ""
    link: str = ""

    def __str__(self) -> str:
        """Return one line for a terminal."""
        note = f" ({self.note})" if self.note else ""
        if self.old is None or self.new is None:
            return f"{'+' if self.old is None else '-'} {self.name} {self.new or self.old}{note}"
        moved = self.old if self.old == self.new else f"{self.old} -> {self.new}"
        return f"~ {self.name} {moved}{note}"


def changes(old: Lock, new: Lock) -> tuple[Change, ...]:
    """Return the changes between two locks, except Python."""
    found: list[Change] = []
    if old.base != new.base:
        found.append(Change("base", "base", _base(old.base), _base(new.base)))
    was, now = {"ComfyUI": old.comfyui, **old.nodes}, {"ComfyUI": new.comfyui, **new.nodes}
    found += [_source(name, was.get(name), now.get(name)) for name in _moved(was, now)]
    before, after = {m.name: m for m in old.models}, {m.name: m for m in new.models}
    found += [_model(name, before.get(name), after.get(name)) for name in _moved(before, after)]
    return tuple(change for change in found if change.old != change.new or change.note)


def python_changes(old: Sequence[Pin], new: Sequence[Pin]) -> tuple[Change, ...]:
    """Return the changes between two Python locks, including a version that stayed while its files changed."""
    was, now = {pin.name: pin for pin in old}, {pin.name: pin for pin in new}
    return tuple(_pin(name, was.get(name), now.get(name)) for name in _moved(was, now))


def difference(old: Lock | None, new: Lock, old_pins: tuple[Pin, ...], new_pins: tuple[Pin, ...]) -> list[str]:
    """Return what changed between two locks, one line each."""
    if old is None:
        return [f"+ new lock: {len(new.nodes)} node packs, {len(new_pins)} Python pins, {len(new.models)} models"]
    found = (*changes(old, new), *python_changes(old_pins, new_pins))
    return [str(change) for part in _PARTS for change in found if change.part == part]


def _moved(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    return [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]


def _base(base: LockedBase) -> str:
    return base.digest or f"bootstrapped {base.bootstrap}"


def _source(name: str, old: LockedSource | None, new: LockedSource | None) -> Change:
    note = ""
    if old is not None and new is not None and old.git != new.git:
        note = f"now from {new.git or new.path}"
    was, now = (None if s is None else (s.commit or s.path or "")[:_SHORT] for s in (old, new))
    return Change("source", name, was, now, note, _compare(old, new))


def _compare(old: LockedSource | None, new: LockedSource | None) -> str:
    """Return the URL of the page that compares the commits, or of the repository where there is one side only."""
    source = new or old
    if source is None or source.git is None:
        return ""
    address = source.git.removesuffix(".git").rstrip("/")
    match = _REPOSITORY.fullmatch(address)
    if match is None:
        return ""
    if old is None or new is None or old.git != new.git or not _commits(old, new):
        return address
    return f"{address}{'/-' if match['host'] == 'gitlab.com' else ''}/compare/{old.commit}...{new.commit}"


def _commits(*sources: LockedSource) -> bool:
    return all(_COMMIT.fullmatch(source.commit or "") for source in sources)


def _model(name: str, old: LockedModel | None, new: LockedModel | None) -> Change:
    was, now = (None if m is None else f"{m.sha256[:_SHORT]} {m.size or 'size unknown'}" for m in (old, new))
    notes = []
    if old is not None and new is not None:
        notes += ["sources changed"] if old.sources != new.sources else []
        if old.size_confirmed != new.size_confirmed:
            notes += ["size confirmed" if new.size_confirmed else "size no longer confirmed"]
    return Change("model", name, was, now, ", ".join(notes))


def _pin(name: str, old: Pin | None, new: Pin | None) -> Change:
    if old is None or new is None:
        return Change("python", name, old.version if old else None, new.version if new else None)
    if old.version != new.version:
        return Change("python", name, old.version, new.version, _step(old.version, new.version))
    was, now = set(_HASH.findall(old.text)), set(_HASH.findall(new.text))
    files = f"files: {len(now - was)} added, {len(was - now)} removed" if was != now else "requirement changed"
    return Change("python", name, old.version, new.version, files)


def _step(old: str, new: str) -> str:
    """Return "downgrade" or "major" for the version steps that need attention, else an empty string."""
    try:
        was, now = Version(old), Version(new)
    except InvalidVersion:
        return ""
    if now < was:
        return "downgrade"
    pairs = zip_longest((was.epoch, *was.release), (now.epoch, *now.release), fillvalue=0)
    first = next((index for index, (a, b) in enumerate(pairs) if a != b), None)
    return "major" if first in (0, 1) else ""


# --- the page


@dataclass(frozen=True)
class Moved:
    """The changes of one lock; `where` is the name of its file."""

    where: str
    changes: tuple[Change, ...]
    unconfirmed: tuple[tuple[str, str], ...] = ()


def markdown(moved: Iterable[Moved], *, limit: int = _LIMIT) -> str:
    """Return all changes as a Markdown page: a table for each part; a change common to several locks is listed once.

    Never longer than `limit` characters: rows that do not fit are counted. Names are untrusted: they cannot add links,
    mentions or formatting.
    """
    everything = tuple(moved)
    where: dict[Change, list[str]] = {}
    for lock in everything:
        for change in lock.changes:
            where.setdefault(change, []).append(lock.where)
    blocks: list[tuple[str, list[str]]] = []
    for part, title in _PARTS.items():
        rows = [_row(change, locks) for change, locks in where.items() if change.part == part]
        if rows:
            blocks.append((f"### {title}\n\n| what | from | to | | in |\n|---|---|---|---|---|\n", rows))
    reasons = {(name, reason): None for lock in everything for name, reason in lock.unconfirmed}
    if reasons:
        rows = [f"| {_code(name)} | {_code(reason)} |" for name, reason in reasons]
        blocks.append(("### Kept, not confirmed\n\n| what | why |\n|---|---|\n", rows))
    if not where:
        blocks.insert(0, ("No changes.\n", []))
    return _within(blocks, limit)


def _within(blocks: Sequence[tuple[str, list[str]]], limit: int) -> str:
    text, left_out = "", 0
    room = limit - 100  # for the sentence at the end
    for head, rows in blocks:
        text += f"{head}" if len(text) + len(head) < room else ""
        for row in rows:
            if len(text) + len(row) < room and not left_out:
                text += f"{row}\n"
            else:
                left_out += 1
        text += "\n"
    if left_out:
        text += f"{left_out} more rows did not fit: see the diff of the lock files.\n"
    return text.rstrip("\n") + "\n"


def _row(change: Change, locks: Sequence[str]) -> str:
    old, new = (_code(side) if side else "" for side in (change.old, change.new))
    note = change.note or ("new" if change.old is None else "removed" if change.new is None else "")
    if change.link and new:
        new = f"[{new}]({change.link})"
    return f"| {_code(change.name)} | {old} | {new} | {_code(note) if note else ''} | {', '.join(map(_code, locks))} |"


def _code(text: str) -> str:
    """Return inline code that no backtick, cell border or line break in the text can end early."""
    plain = "".join(c if c.isprintable() else " " for c in text).replace("`", "'").replace("|", "¦")
    return f"`{' '.join(plain.split())[:300] or '-'}`"
