"""The expected models, to the byte: the manifest's entries completed from the lock or the image's record.

A wanted model is a `manifest.schema.Model`: one definition for people, for locks and for the program.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gesso.errors import ManifestError
from gesso.manifest.schema import Model
from gesso.models.tiers import TIERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gesso.manifest.lock import Lock
    from gesso.manifest.schema import Manifest


def from_lock(manifest: Manifest, lock: Lock) -> tuple[Model, ...]:
    """Return the manifest's models with the lock's sources (pinned to a revision) and sizes."""
    keys = {"sources", "size", "size_confirmed", "sha256"}
    locked = {model.name: model.model_dump(include=keys) for model in lock.models}
    return tuple(model.model_copy(update=locked[model.name]) for model in manifest.models)


def from_record(models: Iterable[Mapping[str, Any]], path: object) -> tuple[Model, ...]:
    """Read the models of an image's record (build.json); `path` is its name in messages.

    Raises ManifestError that names every entry that is wrong.
    """
    found, wrong = [], []
    for index, entry in enumerate(models):
        try:
            found.append(Model.model_validate(entry))
        except ValidationError as error:
            name = entry.get("name", f"number {index + 1}") if isinstance(entry, dict) else f"number {index + 1}"
            faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            wrong.append(f"{path}: model {name}: {faults}")
    if wrong:
        raise ManifestError("\n".join(wrong), "restore the file from the image")
    return tuple(found)


def choose(models: Sequence[Model], names: Sequence[str] = (), tier: str | None = None) -> tuple[Model, ...]:
    """Return the models called `names` (a path under models/ or its last part; all by default), down to `tier`.

    Raises ManifestError for a name that no model has, or that two have, and where none would be left.
    """
    known = [model.name for model in models]
    meant = {name: [full for full in known if name in {full, full.rsplit("/", 1)[-1]}] for name in names}
    if unknown := [name for name, found in meant.items() if not found]:
        parts = [*known, *(full.rsplit("/", 1)[-1] for full in known)]
        near = [close for name in unknown for close in difflib.get_close_matches(name, parts, n=2)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        raise ManifestError(f"no model is called {', '.join(unknown)}", hint)
    if double := [name for name, found in meant.items() if len(found) > 1 and name not in known]:
        raise ManifestError(f"{double[0]}: several models have this name", f"choose one: {', '.join(meant[double[0]])}")
    asked = {name if name in known else found[0] for name, found in meant.items()} or set(known)
    deepest = TIERS.index(tier) if tier in TIERS else len(TIERS)
    chosen = tuple(m for m in models if m.name in asked and TIERS.index(m.tier) <= deepest)
    if models and not chosen:
        raise ManifestError(f"--tier {tier}: none of these models is of it", "leave out --tier, or the names")
    return chosen
