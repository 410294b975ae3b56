"""The models of an image's record as the agent needs them: without pydantic, which would cost it 10 MB of memory.

The processes that fetch, verify and heal validate the record (gesso.models.wanted), and name every fault in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso.errors import CheckError
from gesso.models.tiers import TIERS, in_order

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class WatchedModel:
    """One model; `name` is its path under models/, `size` in bytes."""

    name: str
    tier: str
    sha256: str
    size: int | None
    license: str = ""


def from_record(models: Iterable[Any]) -> list[WatchedModel]:
    """Return the models of a record in the order of fetching.

    Raises CheckError if an entry lacks what the agent needs.
    """
    found = []
    for entry in models:
        try:
            size = entry.get("size")
            model = WatchedModel(
                str(entry["name"]), str(entry["tier"]), str(entry["sha256"]), None if size is None else int(size),
                str(entry.get("license", "")),
            )  # fmt: skip
            TIERS.index(model.tier)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckError(
                f"build.json: a model is not valid: {type(error).__name__}: {error}", "start a fresh instance"
            ) from None
        found.append(model)
    return in_order(found)
