"""Diffusion models, alone or in a checkpoint: the rules of ComfyUI's model_detection.py and supported_models.py."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gesso.models.identity import CHANNELS, CONTEXTS, UNKNOWN, Identity, context, dim, first_of

if TYPE_CHECKING:
    from gesso.models.identity import Tensors

    Found = tuple[str, int | None, str]  # family, latent channels, evidence

# What UNets have besides the width of their text: widths of the label embedding (None: has none) and the first layer.
_LABELS: dict[str, set[int | None]] = {
    "sd15": {None}, "sd2": {None, 1536, 2048}, "sdxl": {2816}, "sdxl-refiner": {2560},
}  # fmt: skip
_WIDTHS = {"sd15": 320, "sd2": 320, "sdxl": 320, "sdxl-refiner": 384}
_FLUX_TEXT = 4096  # the width of T5-XXL's output
_TEMPORAL = re.compile(r"\.(time_stack|time_mix_blocks)\.")  # Stable Video Diffusion
# What makes a checkpoint of a diffusion model: a VAE or a text encoder in the same file (`*_key_prefix`).
_OTHERS = ("first_stage_model.", "vae.", "cond_stage_model.", "conditioner.", "text_encoders.")


def trunk(tensors: Tensors) -> Identity | None:
    """Recognise a diffusion model under ComfyUI's own names, with or without the prefix that checkpoints give it."""
    for prefix in ("model.diffusion_model.", ""):
        for rule in (_sd3, _flux, _unet):
            if found := rule(tensors, prefix):
                whole = bool(prefix) and any(name.startswith(_OTHERS) for name in tensors)
                return Identity("checkpoint" if whole else "diffusion_model", *found)
    return None


def diffusers_unet(tensors: Tensors) -> Identity | None:
    """Recognise a UNet under diffusers' names (`unet_config_from_diffusers_unet`)."""
    if "conv_in.weight" not in tensors or "time_embedding.linear_1.weight" not in tensors:
        return None
    channels = dim(tensors, "conv_out.weight", 0, 4)
    return Identity("diffusion_model", diffusers_family(tensors), channels, "conv_in.weight and its text's width")


def diffusers_family(tensors: Tensors) -> str:
    """Give the family of a UNet, or of a ControlNet for one, under diffusers' names."""
    names = (name for name in tensors if name.startswith("down_blocks.") and name.endswith(".attn2.to_k.weight"))
    if any("temporal" in name for name in tensors):
        return UNKNOWN
    return _family(tensors, context(tensors, names), "add_embedding.linear_1.weight", "conv_in.weight")


def unet_family(tensors: Tensors, prefix: str) -> str:
    """Give the family of a UNet, or of a ControlNet for one, under ComfyUI's names."""
    blocks = f"{prefix}input_blocks."
    inner = [name for name in tensors if name.startswith(blocks)]
    if any(_TEMPORAL.search(name) for name in inner) or "cc_projection.weight" in tensors:  # the latter: Zero123
        return UNKNOWN
    width = context(tensors, (name for name in inner if name.endswith(".attn2.to_k.weight")))
    return _family(tensors, width, f"{prefix}label_emb.0.0.weight", f"{blocks}0.0.weight")


def _family(tensors: Tensors, width: int | None, label: str, first: str) -> str:
    family = CONTEXTS.get(width or 0, UNKNOWN)
    if family == UNKNOWN or dim(tensors, first, 0, 4) != _WIDTHS[family]:
        return UNKNOWN
    labels = dim(tensors, label, 1, 2)
    packed = label in tensors and labels is None
    return UNKNOWN if packed or labels not in _LABELS[family] else family


def _unet(tensors: Tensors, prefix: str) -> Found | None:
    first = f"{prefix}input_blocks.0.0.weight"
    if first not in tensors:
        return None
    channels = dim(tensors, f"{prefix}out.2.weight", 0, 4)
    if channels is None:  # inpainting and editing models take in 8 or 9 channels, more than the latent has
        taken = dim(tensors, first, 1, 4)
        channels = taken if taken in CHANNELS.values() else None
    return unet_family(tensors, prefix), channels, first


def _sd3(tensors: Tensors, prefix: str) -> Found | None:
    key = f"{prefix}joint_blocks.0.context_block.attn.qkv.weight"
    return ("sd3", CHANNELS["sd3"], key) if key in tensors else None


def _flux(tensors: Tensors, prefix: str) -> Found | None:
    norm = f"{prefix}double_blocks.0.img_attn.norm.key_norm."
    key = first_of(tensors, f"{norm}scale", f"{norm}weight")
    if key is None or f"{prefix}txt_in.individual_token_refiner.blocks.0.norm1.weight" in tensors:  # Hunyuan Video
        return None
    if any(name.startswith(f"{prefix}distilled_guidance_layer.") for name in tensors):
        return UNKNOWN, None, f"{prefix}distilled_guidance_layer (Chroma)"
    if f"{prefix}img_in.weight" not in tensors:
        return None
    if (modulation := f"{prefix}double_stream_modulation_img.lin.weight") in tensors:
        return "flux2", CHANNELS["flux2"], modulation
    text = f"{prefix}txt_in.weight"
    if text in tensors and dim(tensors, text, 1, 2) != _FLUX_TEXT:  # LongCat, Ovis: Flux's blocks, another text
        return UNKNOWN, None, f"{text} is not as wide as Flux's"
    return "flux", CHANNELS["flux"], key
