"""The tiers of models, and the order in which they are fetched. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

TIERS = ("required", "recommended", "optional")


class _Tiered(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def tier(self) -> str: ...
    @property
    def size(self) -> int | None: ...


_T = TypeVar("_T", bound=_Tiered)


def in_order(models: Iterable[_T]) -> list[_T]:
    """Sort models in the order of fetching: required first, and the smallest first within a tier."""
    return sorted(models, key=lambda model: (TIERS.index(model.tier), model.size or 0, model.name))
