"""Sizes stay within the manifest's budget: a host pulls the image in minutes, its layers in parallel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .expected import record_of

if TYPE_CHECKING:
    from .expected import Expected
    from .image_snapshot import ImageSnapshot


def problems(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Compare the unpacked bytes of the image and each layer with the manifest's budget. Baked models do not count.

    Their sizes are in the lock.
    """
    budget = expected.manifest.budget
    models = {f"opt/gesso/models/{name}" for name in record_of(snapshot).get("baked", [])}
    sizes = [size for size, part in zip(snapshot.sizes, snapshot.parts, strict=True) if not models & part.keys()]
    found = [f"layer of {size / 1e9:.2f} GB, the budget is {budget.layer_gb} GB" for size in sizes
             if size > budget.layer_gb * 1e9]  # fmt: skip
    if sum(sizes) > budget.image_gb * 1e9:
        found.append(f"image of {sum(sizes) / 1e9:.2f} GB, the budget is {budget.image_gb} GB")
    return found
