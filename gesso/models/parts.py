"""VAEs, text encoders and what is added to a diffusion model: the rules of ComfyUI and of the packs that load them.

Sources: ComfyUI's comfy/sd.py (VAE, detect_te_model), controlnet.py, clip_vision.py and weight_adapter/;
ComfyUI_IPAdapter_plus; spandrel's architectures, by which ComfyUI loads upscalers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gesso.models.identity import CONTEXTS, UNKNOWN, Identity, context, dim, first_of
from gesso.models.trunks import diffusers_family, unet_family

if TYPE_CHECKING:
    from gesso.models.identity import Tensors
    from gesso.models.tensors import Header

_LORA = re.compile(r"(\.lora_(up|down|A|B)(\.default)?|[._]lora\.(up|down)|\.lora_linear_layer\.(up|down))\.weight\Z")
_OTHER_LORA = re.compile(r"\.(hada_w1_a|lokr_w1|lokr_w1_a|oft_blocks|dora_scale)\Z")
# The keys of cross-attention in a UNet, in the half of a LoRA that takes the text in.
_LORA_TEXT = re.compile(
    r"(down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)[._].*attn2[._](processor\.)?to_k"
    r"(\.lora_(down|A)(\.default)?|[._]lora\.down|\.lora_linear_layer\.down)\.weight\Z"
)
_GGUF_TEXT = {"t5", "t5encoder"}
_GGUF_IMAGE = {"flux", "sd1", "sdxl", "sd3"}


def ipadapter(tensors: Tensors) -> Identity | None:
    """Recognise an IP-Adapter: it may hold a LoRA, so it comes before them."""
    if not any(name.startswith("image_proj.") for name in tensors):
        return None
    key = first_of(tensors, "ip_adapter.1.to_k_ip.weight", "ip_adapter.0.to_k_ip.weight")
    if key is None:
        return None
    return Identity("ipadapter", CONTEXTS.get(dim(tensors, key, 1, 2) or 0, UNKNOWN), None, key)


def lora(tensors: Tensors) -> Identity | None:
    """Recognise a LoRA or its kin; the family only of those for UNets, whose text has a width of its own.

    LoRAs for Flux, Chroma and others have the same names and shapes: those are "unknown".
    """
    key = next((name for name in tensors if _LORA.search(name) or _OTHER_LORA.search(name)), None)
    if key is None:
        return None
    texts = [name for name in tensors if _LORA_TEXT.search(name)]
    moving = any("temporal" in name or "time_stack" in name for name in tensors)
    family = UNKNOWN if moving else CONTEXTS.get(context(tensors, texts) or 0, UNKNOWN)
    return Identity("lora", family, None, texts[0] if texts else key)


def controlnet(tensors: Tensors) -> Identity | None:
    """Recognise ControlNets and T2I-Adapters in the order of `load_controlnet_state_dict`."""
    if "lora_controlnet" in tensors:
        return Identity("controlnet", UNKNOWN, None, "lora_controlnet")
    if (key := "controlnet_cond_embedding.conv_in.weight") in tensors:
        return Identity("controlnet", diffusers_family(tensors), None, key)
    if (key := "controlnet_blocks.0.weight") in tensors:
        return Identity("controlnet", _dit_family(tensors), None, key)
    if (key := "controlnet_blocks.0.linear.weight") in tensors:  # MistoLine
        return Identity("controlnet", "flux", None, key)
    for prefix in ("control_model.", ""):
        if (key := f"{prefix}zero_convs.0.0.weight") in tensors:
            return Identity("controlnet", unet_family(tensors, prefix), None, key)
    adapter = first_of(
        tensors, "adapter.body.0.resnets.0.block1.weight", "body.0.in_conv.weight", "body.0.block2.weight"
    )
    return Identity("controlnet", UNKNOWN, None, adapter) if adapter else None


def _dit_family(tensors: Tensors) -> str:
    if "double_blocks.0.img_attn.norm.key_norm.scale" in tensors:
        return "flux"
    if "pos_embed_input.proj.weight" in tensors:
        return "sd3"
    if "transformer_blocks.0.img_mlp.net.0.proj.weight" in tensors:  # Qwen-Image
        return UNKNOWN
    return "flux" if "controlnet_x_embedder.weight" in tensors else UNKNOWN


def vae(tensors: Tensors, header: Header) -> Identity | None:
    """Recognise a VAE and count its latent channels: the input of its decoder, four times that in Flux.2's."""
    if (key := "taesd_decoder.1.weight") in tensors:
        stated = header.metadata.get("tae_latent_channels", "")
        channels = int(stated) if re.fullmatch(r"[1-9][0-9]{0,3}", stated) else dim(tensors, key, 1, 4)
        return Identity("vae", UNKNOWN, channels, key)
    for prefix in ("", "first_stage_model.", "vae."):
        key = f"{prefix}decoder.conv_in.weight"
        if key in tensors:
            shape = tensors[key].shape
            if len(shape) not in {4, 5}:
                return Identity("vae", UNKNOWN, None, key)
            if (norm := f"{prefix}bn.running_mean") in tensors:
                return Identity("vae", "flux2", shape[1] * 4, norm)
            return Identity("vae", UNKNOWN, shape[1], key)
    return None


def text_encoder(tensors: Tensors) -> Identity | None:
    """Recognise a text encoder (`detect_te_model`); families share them, so none is named."""
    for layer, part in ((30, "clip_g"), (22, "clip_h"), (0, "clip_l")):
        if (key := f"text_model.encoder.layers.{layer}.mlp.fc1.weight") in tensors:
            if any(name.startswith("vision_model.") for name in tensors):
                return Identity(UNKNOWN, UNKNOWN, None, "CLIP with both its halves, for text and for images")
            return Identity("text_encoder", UNKNOWN, None, key, part)
    for key, widths in {
        "encoder.block.23.layer.1.DenseReluDense.wi_1.weight": {10240: "t5xxl", 5120: "t5xl"},
        "encoder.block.23.layer.1.DenseReluDense.wi.weight": {},
        "encoder.block.0.layer.0.SelfAttention.k.weight": {},
    }.items():
        if key in tensors:
            return Identity("text_encoder", UNKNOWN, None, key, widths.get(dim(tensors, key, 0, 2) or 0, "t5"))
    llm = first_of(tensors, "model.layers.0.post_attention_layernorm.weight", "model.layers.0.self_attn.k_proj.bias")
    return Identity("text_encoder", UNKNOWN, None, llm, "llm") if llm else None


def clip_vision(tensors: Tensors) -> Identity | None:
    """Recognise an image encoder (`load_clipvision_from_sd`)."""
    key = first_of(
        tensors,
        "vision_model.encoder.layers.0.layer_norm1.weight",
        "visual.transformer.resblocks.0.attn.in_proj_weight",
        "encoder.layer.23.layer_scale2.lambda1",  # DINOv2
    )
    return Identity("clip_vision", UNKNOWN, None, key) if key else None


def upscaler(tensors: Tensors) -> Identity | None:
    """Recognise the upscalers that the manifests name or people often use: ESRGAN (old and new), OmniSR, SwinIR."""
    key = first_of(
        tensors,
        "model.1.sub.0.RDB1.conv1.0.weight",
        "body.0.rdb1.conv1.weight",
        "residual_layer.0.residual_layer.0.layer.0.fn.0.weight",
        "layers.0.residual_group.blocks.0.norm1.weight",
    )
    return Identity("upscale_model", UNKNOWN, None, key) if key else None


def by_architecture(name: str) -> Identity | None:
    """Judge a GGUF file whose tensors tell nothing by its `general.architecture`.

    "flux", "sd1" and "sdxl" each stand for more than one family there (Flux.2, SD 2, the refiner).
    """
    evidence = f"general.architecture {name}"
    if name in _GGUF_TEXT:
        return Identity("text_encoder", UNKNOWN, None, evidence, "t5")
    if name in _GGUF_IMAGE:
        return Identity("diffusion_model", "sd3" if name == "sd3" else UNKNOWN, None, evidence)
    return None
