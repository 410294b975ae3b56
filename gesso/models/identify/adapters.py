"""Recognise add-ons of diffusion models: IP-Adapters, ControlNets, T2I-Adapters.

Sources: ComfyUI's controlnet.py, lora.py, lora_convert.py and weight_adapter/; ComfyUI_IPAdapter_plus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso.models.identify.diffusion_models import diffusers_family, unet_family
from gesso.models.identify.identity import CONTEXTS, DITS, UNETS, UNKNOWN, Identity, context, dim, first_of

if TYPE_CHECKING:
    from gesso.models.identify.identity import Tensors

_KOLORS = 2048  # the width inside Kolors' own IP-Adapter, whose text width is SDXL's
_T2I_SDXL = {256, 768}  # input channels of T2I-Adapters for SDXL: 1 or 3 of the image, 16 x 16 pixels each
_FOREIGN = {
    "after_proj_list.18.bias": "hunyuan-dit",
    "control_blocks.0.after_proj.weight": "qwen-image",
    "controlnet_blocks.0.y_rms.weight": "qwen-image",  # this and the next two: model_patches
    "control_all_x_embedder.2-1.weight": "lumina2",
    "controlnet_patch_embedding.weight": "wan",
    "backbone.10.blocks.0.weight": "stable-cascade",
}
# In ComfyUI's order: XLabs, SD 3, Qwen-Image, InstantX and Shakker.
_DIT_CONTROL = {
    "controlnet_blocks.0.linear.weight": "flux",
    "double_blocks.0.img_attn.norm.key_norm.scale": "flux",
    "double_blocks.0.img_attn.norm.key_norm.weight": "flux",
    "pos_embed_input.proj.weight": "sd3",
    "transformer_blocks.0.img_mlp.net.0.proj.weight": "qwen-image",
    "controlnet_x_embedder.weight": "flux",
}


def ipadapter(tensors: Tensors) -> Identity | None:
    """Recognise an IP-Adapter: it may hold a LoRA, so it comes before them."""
    if not any(name.startswith("image_proj.") for name in tensors):
        return None
    key = first_of(tensors, "ip_adapter.1.to_k_ip.weight", "ip_adapter.0.to_k_ip.weight")
    if key is None:
        return None
    width = dim(tensors, key, 1, 2)
    kolors = _KOLORS in {
        dim(tensors, f"image_proj.{resampler}layers.0.0.to_out.weight", 0, 2)
        for resampler in ("", "perceiver_resampler.")
    }
    family = "kolors" if kolors and CONTEXTS.get(width or 0) == "sdxl" else CONTEXTS.get(width or 0, UNKNOWN)
    return Identity("ipadapter", family, None, key, never=UNETS if family == UNKNOWN and width else frozenset())


def controlnet(tensors: Tensors) -> Identity | None:
    """Recognise ControlNets and T2I-Adapters in the order of `load_controlnet_state_dict`."""
    rules = (_foreign_control, _control_lora, _diffusers_control, _dit_control, _unet_control, _t2i_adapter)
    return next((found for rule in rules if (found := rule(tensors))), None)


def _foreign_control(tensors: Tensors) -> Identity | None:
    return next((Identity("controlnet", _FOREIGN[key], None, key) for key in _FOREIGN if key in tensors), None)


def _diffusers_control(tensors: Tensors) -> Identity | None:
    if (key := "controlnet_cond_embedding.conv_in.weight") not in tensors:
        return None
    family, never = diffusers_family(tensors)
    return Identity("controlnet", family, None, key, never=never)


def _unet_control(tensors: Tensors) -> Identity | None:
    for prefix in ("control_model.", ""):
        if (key := f"{prefix}zero_convs.0.0.weight") in tensors:
            family, never = unet_family(tensors, prefix)
            return Identity("controlnet", family, None, key, never=never)
    return None


def _control_lora(tensors: Tensors) -> Identity | None:
    """Stability's Control-LoRAs: `down` of an attention matrix has the width of the text, as in a LoRA."""
    if "lora_controlnet" not in tensors:
        return None
    names = (name for name in tensors if name.startswith("input_blocks.") and name.endswith(".attn2.to_k.down"))
    width = context(tensors, names)
    family = CONTEXTS.get(width or 0, UNKNOWN)
    return Identity("controlnet", family, None, "lora_controlnet", never=DITS if family == UNKNOWN else frozenset())


def _dit_control(tensors: Tensors) -> Identity | None:
    key = first_of(tensors, "controlnet_blocks.0.weight", "controlnet_blocks.0.linear.weight")  # the latter: MistoLine
    if key is None:
        return None
    for decisive, family in _DIT_CONTROL.items():
        if decisive in tensors:
            return Identity("controlnet", family, None, decisive)
    return Identity("controlnet", UNKNOWN, None, key, never=UNETS)


def _t2i_adapter(tensors: Tensors) -> Identity | None:
    key = first_of(tensors, "adapter.body.0.resnets.0.block1.weight", "body.0.in_conv.weight", "body.0.block2.weight")
    if key is None:
        return None
    taken = dim(tensors, "conv_in.weight", 1, 4) or dim(tensors, "adapter.conv_in.weight", 1, 4)
    if taken is None:
        return Identity("controlnet", UNKNOWN, None, key, never=DITS)
    if taken in _T2I_SDXL:
        return Identity("controlnet", "sdxl", None, key)
    return Identity("controlnet", UNKNOWN, None, key, never=DITS | {"sdxl", "sdxl-refiner"})
