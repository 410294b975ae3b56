"""Detect a model file's architecture from its safetensors header alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

UNKNOWN: dict[str, Any] = {"base_model": "unknown"}
# ComfyUI's own limit; a text file's first eight bytes, read as a length, are far above it.
LONGEST_HEADER = 100 * 1024 * 1024
PREFIX = "model.diffusion_model."


def inspect(path: Path) -> dict[str, Any]:
    """Return the entry of GET /api/etn/model_info for one file; a corrupt file is an entry, never an exception."""
    if path.suffix == ".gguf":
        return {**UNKNOWN, "error": "GGUF module not found"}
    try:
        header = read_header(path)
    except (OSError, ValueError) as error:
        return {**UNKNOWN, "error": f"Failed to detect base model: {error}"}
    return detect({name: tuple(t.get("shape", ())) for name, t in header.items() if isinstance(t, dict)})


def read_header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise ValueError("the file is too short for a safetensors header")
        (length,) = struct.unpack("<Q", start)
        if length > LONGEST_HEADER:
            raise ValueError(f"a safetensors header of {length} bytes is not plausible")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):  # the caller expects ValueError for corrupt files
        raise ValueError(  # noqa: TRY004
            "the safetensors header is not a table"
        )
    return header


def detect(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Detect by the tensors that distinguish the families; anything else is unknown, as it is to Krita."""
    prefix = PREFIX if any(name.startswith(PREFIX) for name in shapes) else ""

    def shape(name: str) -> tuple[int, ...]:
        return shapes.get(prefix + name, ())

    norm = "double_blocks.0.img_attn.norm.key_norm."
    if (shape(norm + "scale") or shape(norm + "weight")) and len(shape("img_in.weight")) == 2:
        dev = bool(shape("guidance_in.in_layer.weight"))
        inpaint = dev and shape("img_in.weight")[1] == 384
        return {"base_model": "flux" if dev else "flux-schnell", "is_inpaint": inpaint}
    first = shape("input_blocks.0.0.weight")
    if len(first) != 4 or first[0] != 320:
        return UNKNOWN
    labels, context = shape("label_emb.0.0.weight"), _context(shapes, prefix)
    if len(labels) == 2 and labels[1] == 2816 and context == 2048:
        kind = "v-prediction" if "v_pred" in shapes else "eps"
        return {"base_model": "sdxl", "is_inpaint": first[1] > 4, "type": kind}
    if not labels and context == 768:
        return {"base_model": "sd15", "is_inpaint": first[1] > 4}
    return UNKNOWN


def _context(shapes: dict[str, tuple[int, ...]], prefix: str) -> int:
    """Return the width of the text embedding that cross-attention reads."""
    for name, shape in shapes.items():
        if name.startswith(prefix + "input_blocks.") and name.endswith("attn2.to_k.weight"):
            return shape[1]
    return 0
