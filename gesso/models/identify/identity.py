"""Shared by the rules: their result, the families' latent channels, and safe access to shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gesso.models.identify.tensors import Tensor

    Tensors = Mapping[str, Tensor]

UNKNOWN = "unknown"
# Latent channels of each family: ComfyUI's comfy/latent_formats.py.
CHANNELS = {"sd15": 4, "sd2": 4, "sdxl": 4, "sdxl-refiner": 4, "sd3": 16, "flux": 16, "flux2": 128}
# The width of the text that a UNet (and so a LoRA or an IP-Adapter for it) attends to: comfy/supported_models.py.
CONTEXTS = {768: "sd15", 1024: "sd2", 2048: "sdxl", 1280: "sdxl-refiner"}

EVERY = frozenset(CHANNELS)
UNETS = frozenset(CONTEXTS.values())
DITS = EVERY - UNETS

# Quantised weights in safetensors are packed into these: several numbers an element, so their shapes say nothing.
_PACKED = {"U8", "I8", "U16", "I16", "U32", "I32", "F4", "F6_E2M3", "F6_E3M2"}


@dataclass(frozen=True)
class Identity:
    """What a file is; `evidence` names the tensor that decided, `part` which text encoder (clip_l, t5xxl, …).

    `family` is one of CHANNELS, or another architecture's name (wan, chroma, …), or "unknown". `never`: if unknown, the
    families of CHANNELS that it can't be.
    """

    kind: str
    family: str
    latent_channels: int | None
    evidence: str
    part: str = ""
    never: frozenset[str] = frozenset()


def dim(tensors: Tensors, name: str, axis: int, rank: int) -> int | None:
    """Return one dimension of a tensor of that rank, else None: quantised and packed weights have other shapes."""
    tensor = tensors.get(name)
    if tensor is None or len(tensor.shape) != rank or tensor.dtype in _PACKED:
        return None
    return tensor.shape[axis]


def context(tensors: Tensors, names: Iterable[str]) -> int | None:
    """Return the width of the text that cross-attention takes in: the same in all of `names`, else None."""
    widths = {dim(tensors, name, 1, 2) for name in names}
    return widths.pop() if len(widths) == 1 else None


def first_of(tensors: Tensors, *names: str) -> str | None:
    """Return the first of `names` that exists."""
    return next((name for name in names if name in tensors), None)
