"""Sizes stay within what the manifest allows: a host pulls the image in minutes, its layers side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .expected import record_of

if TYPE_CHECKING:
    from .expected import Expected
    from .photograph import Photograph


def problems(photo: Photograph, expected: Expected) -> list[str]:
    """Compare the image's and each layer's bytes, unpacked, with the manifest's budget. Baked models do not count.

    Their sizes are the lock's.
    """
    budget = expected.manifest.budget
    models = {f"opt/gesso/models/{name}" for name in record_of(photo).get("baked", [])}
    sizes = [size for size, part in zip(photo.sizes, photo.parts, strict=True) if not models & part.keys()]
    found = [f"layer of {size / 1e9:.2f} GB, the budget is {budget.layer_gb} GB" for size in sizes
             if size > budget.layer_gb * 1e9]  # fmt: skip
    if sum(sizes) > budget.image_gb * 1e9:
        found.append(f"image of {sum(sizes) / 1e9:.2f} GB, the budget is {budget.image_gb} GB")
    return found
