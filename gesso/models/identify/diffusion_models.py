"""Diffusion models, alone or in a checkpoint: the rules of ComfyUI's model_detection.py and supported_models.py."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gesso.models.identify import unsupported
from gesso.models.identify.identity import (
    CHANNELS,
    CONTEXTS,
    DITS,
    EVERY,
    UNETS,
    UNKNOWN,
    Identity,
    context,
    dim,
    first_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gesso.models.identify.identity import Tensors

    Family = tuple[str, frozenset[str]]  # the family, and which it can't be where that is unknown
    Found = tuple[str, int | None, str, frozenset[str]]  # family, latent channels, evidence, which it can't be

# What UNets have besides the width of their text: widths of the label embedding (None: has none) and the first layer.
_LABELS: dict[str, set[int | None]] = {
    "sd15": {None}, "sd2": {None, 1536, 2048}, "sdxl": {2816}, "sdxl-refiner": {2560},
}  # fmt: skip
_WIDTHS = {"sd15": 320, "sd2": 320, "sdxl": 320, "sdxl-refiner": 384}
_FLUX_TEXT, _FLUX_WIDTH, _SD3_LATENTS = 4096, 3072, 16  # T5-XXL's output, the blocks' width, the latent
_TEMPORAL = re.compile(r"\.(time_stack|time_mix_blocks)\.")  # Stable Video Diffusion
_NEVER: frozenset[str] = frozenset()
# `unet_prefix_from_state_dict`, and none
_PREFIXES = ("model.diffusion_model.", "", "model.model.", "net.", "model.")
# Nunchaku's models: packed, under names of their own, and named in the metadata (comfyui-tooling-nodes, detect_svdq).
_NUNCHAKU = {
    "NunchakuFluxTransformer2dModel": "flux",
    "NunchakuQwenImageTransformer2DModel": "qwen-image",
    "NunchakuZImageTransformer2DModel": "lumina2",
}
# What makes a checkpoint of a diffusion model: a VAE or a text encoder in the same file (`*_key_prefix`).
_OTHERS = ("first_stage_model.", "vae.", "cond_stage_model.", "conditioner.", "text_encoders.", "pretransform.model.")


def diffusion_model(tensors: Tensors) -> Identity | None:
    """Recognise a diffusion model under ComfyUI's own names, with or without the prefix that checkpoints give it."""
    for prefix in _PREFIXES:
        for rule in (_sd3, _flux, _other, _unet):
            if found := rule(tensors, prefix):
                family, channels, evidence, never = found
                whole = bool(prefix) and any(name.startswith(_OTHERS) for name in tensors)
                return Identity("checkpoint" if whole else "diffusion_model", family, channels, evidence, never=never)
    return None


def diffusers_unet(tensors: Tensors) -> Identity | None:
    """Recognise a UNet under diffusers' names, which UNETLoader converts (`unet_config_from_diffusers_unet`)."""
    if "conv_in.weight" not in tensors or "time_embedding.linear_1.weight" not in tensors:
        return None
    family, never = diffusers_family(tensors)
    channels = dim(tensors, "conv_out.weight", 0, 4)
    return Identity("diffusion_model", family, channels, "conv_in.weight and the width of its text", never=never)


def diffusers_dit(tensors: Tensors) -> Identity | None:
    """Recognise Flux, Flux.2, Chroma and SD 3 under diffusers' names (`convert_diffusers_mmdit`)."""
    if (key := "transformer_blocks.0.attn.add_q_proj.weight") not in tensors:
        return None
    family, evidence = UNKNOWN, key
    flux2 = first_of(tensors, "double_stream_modulation_img.linear.weight", "double_stream_modulation_img.lin.weight")
    text = dim(tensors, "context_embedder.weight", 1, 2)
    if "pos_embed.proj.weight" in tensors and "context_embedder.weight" in tensors:
        family = "sd3"
    elif any(name.startswith("distilled_guidance_layer.") for name in tensors):
        family, evidence = "chroma", "distilled_guidance_layer"
    elif flux2:
        family, evidence = "flux2", flux2
    elif "single_transformer_blocks.0.proj_mlp.weight" in tensors and text == _FLUX_TEXT:
        family = "flux"
    never = UNETS if family == UNKNOWN else _NEVER
    return Identity("diffusion_model", family, CHANNELS.get(family), evidence, never=never)


def nunchaku(metadata: Mapping[str, str]) -> Identity | None:
    """Recognise a model that was quantised for Nunchaku."""
    name = metadata.get("model_class", "")
    family = _NUNCHAKU.get(name)
    return Identity("diffusion_model", family, CHANNELS.get(family), f"model_class {name}") if family else None


def diffusers_family(tensors: Tensors) -> Family:
    """Return the family of a UNet, or of a ControlNet for one, under diffusers' names."""
    names = (name for name in tensors if name.startswith("down_blocks.") and name.endswith(".attn2.to_k.weight"))
    if any("temporal" in name for name in tensors):
        return UNKNOWN, DITS
    label = first_of(tensors, "add_embedding.linear_1.weight", "class_embedding.linear_1.weight")
    return _family(tensors, context(tensors, names), label or "", "conv_in.weight")


def unet_family(tensors: Tensors, prefix: str) -> Family:
    """Return the family of a UNet, or of a ControlNet for one, under ComfyUI's names."""
    blocks = f"{prefix}input_blocks."
    inner = [name for name in tensors if name.startswith(blocks)]
    if any(_TEMPORAL.search(name) for name in inner):
        return "svd", _NEVER
    if "cc_projection.weight" in tensors:
        return "zero123", _NEVER
    width = context(tensors, (name for name in inner if name.endswith(".attn2.to_k.weight")))
    return _family(tensors, width, f"{prefix}label_emb.0.0.weight", f"{blocks}0.0.weight")


def _family(tensors: Tensors, width: int | None, label: str, first: str) -> Family:
    """Weigh three widths; each may be unreadable (packed), and then speaks for and against nothing."""
    if first not in tensors:
        return UNKNOWN, _NEVER
    labels, outer = dim(tensors, label, 1, 2), dim(tensors, first, 0, 4)
    readable = labels is not None or label not in tensors
    never = {
        family
        for text, family in CONTEXTS.items()
        if (width is not None and width != text)
        or (outer is not None and outer != _WIDTHS[family])
        or (readable and labels not in _LABELS[family])
    }
    left = UNETS - never
    sure = len(left) == 1 and outer is not None and readable and (width is not None or labels is not None)
    return (next(iter(left)), _NEVER) if sure else (UNKNOWN, DITS | never)


def _unet(tensors: Tensors, prefix: str) -> Found | None:
    first = f"{prefix}input_blocks.0.0.weight"
    if first not in tensors:
        return None
    channels = dim(tensors, f"{prefix}out.2.weight", 0, 4)
    if channels is None:  # inpainting and editing models take in 8 or 9 channels, more than the latent has
        taken = dim(tensors, first, 1, 4)
        channels = taken if taken in CHANNELS.values() else None
    family, never = unet_family(tensors, prefix)
    return family, channels, first, never


def _sd3(tensors: Tensors, prefix: str) -> Found | None:
    key = f"{prefix}joint_blocks.0.context_block.attn.qkv.weight"
    if key not in tensors:
        return None
    taken = dim(tensors, f"{prefix}x_embedder.proj.weight", 1, 4)
    if taken not in {None, _SD3_LATENTS}:
        return UNKNOWN, None, key, UNETS
    return "sd3", CHANNELS["sd3"], key, _NEVER


def _flux(tensors: Tensors, prefix: str) -> Found | None:
    norm = f"{prefix}double_blocks.0.img_attn.norm.key_norm."
    key = first_of(tensors, f"{norm}scale", f"{norm}weight")
    if key is None or f"{prefix}txt_in.individual_token_refiner.blocks.0.norm1.weight" in tensors:  # Hunyuan Video
        return None
    if any(name.startswith(f"{prefix}distilled_guidance_layer.") for name in tensors):
        return "chroma", None, f"{prefix}distilled_guidance_layer", _NEVER
    if (taken := f"{prefix}img_in.weight") not in tensors:
        return None
    if (modulation := f"{prefix}double_stream_modulation_img.lin.weight") in tensors:
        return "flux2", CHANNELS["flux2"], modulation, _NEVER
    text = dim(tensors, f"{prefix}txt_in.weight", 1, 2)
    width = dim(tensors, taken, 0, 2)
    if text not in {None, _FLUX_TEXT} or width not in {None, _FLUX_WIDTH}:  # LongCat, Ovis: Flux's blocks, other text
        return UNKNOWN, None, f"{prefix}txt_in.weight, which takes in another text than Flux", EVERY
    return "flux", CHANNELS["flux"], key, _NEVER


def _other(tensors: Tensors, prefix: str) -> Found | None:
    found = unsupported.diffusion_model_of(tensors, prefix)
    return (found[0], None, found[1], _NEVER) if found else None
