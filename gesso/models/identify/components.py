"""VAEs, text and image encoders, upscalers: the rules of ComfyUI and of the packs that load them.

Sources: ComfyUI's comfy/sd.py (VAE, detect_te_model) and clip_vision.py; spandrel's architectures, by which ComfyUI
loads upscalers; ComfyUI-GGUF's loader.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gesso.models.identify import unsupported
from gesso.models.identify.identity import EVERY, UNETS, UNKNOWN, Identity, dim, first_of

if TYPE_CHECKING:
    from gesso.models.identify.identity import Tensors
    from gesso.models.identify.tensors import Header

_LLM = (
    "model.layers.0.post_attention_layernorm.weight",
    "model.layers.0.post_feedforward_layernorm.weight",
    "model.layers.0.self_attn.k_proj.bias",
    "model.language_model.layers.0.input_layernorm.weight",
    "model.visual.deepstack_merger_list.0.norm.weight",
    "visual.deepstack_merger_list.0.norm.weight",
    "model.encoder.layers.0.pre_self_attn_layernorm.weight",  # T5-Gemma
    "model.encoder.layers.0.mixer.Wqkv.weight",  # Jina CLIP 2
    "layers.0.self_attn.sinks",  # GPT-OSS
)
_UPSCALERS = (
    ("model.1.sub.0.RDB1.conv1.0.weight",),  # ESRGAN, in its old layout
    ("body.0.rdb1.conv1.weight",),  # and its new one
    ("residual_layer.0.residual_layer.0.layer.0.fn.0.weight",),  # OmniSR
    ("layers.0.residual_group.blocks.0.norm1.weight", "conv_first.weight"),  # SwinIR, Swin2SR, HAT
    ("layers.0.residual_group.layers.0.norm1.weight", "conv_first.weight"),  # ATD
    ("layers.0.blocks.0.norm1.weight", "before_RG.1.weight"),  # DAT, RGT
    ("layers.0.swin1.norm1.weight", "conv_first.weight"),  # DRCT
    ("feats.0.weight", "feats.1.refine.weight"),  # PLKSR, RealPLKSR
    ("block_1.c1_r.sk.weight", "conv_cat.weight"),  # SPAN
    ("gblocks.0.weight", "gblocks.1.fc1.weight"),  # MoSR
    ("quantize.embedding.weight", "quant_conv.weight", "encoder.conv_out.weight"),  # RestoreFormer: built like a VAE
    ("stylegan_decoder.style_mlp.1.weight", "toRGB.0.weight"),  # GFPGAN
)
_MAT = "synthesis.first_stage.conv_first.conv.weight"
# GGUF's `general.architecture`: of text encoders, and of diffusion models, with the families that they can't be.
# "flux", "sd1", "sdxl" and "lumina2" each stand for more than one family there: Flux.2 and Chroma; SD 2; SD 2 unCLIP
# and the refiner; Z-Image.
_GGUF_TEXT = {"t5": "t5", "t5encoder": "t5", "llama": "llm", "qwen2vl": "llm", "qwen3": "llm", "qwen3vl": "llm"}
_GGUF_IMAGE = {
    "flux": (UNKNOWN, UNETS | {"sd3"}),
    "sd1": (UNKNOWN, EVERY - {"sd15", "sd2"}),
    "sdxl": (UNKNOWN, EVERY - {"sdxl", "sdxl-refiner", "sd2"}),
    "sd3": ("sd3", frozenset()),
    "aura": ("auraflow", frozenset()), "hidream": ("hidream", frozenset()), "cosmos": ("cosmos", frozenset()),
    "ltxv": ("ltxv", frozenset()), "hyvid": ("hunyuan-video", frozenset()), "wan": ("wan", frozenset()),
    "lumina2": ("lumina2", frozenset()), "qwen_image": ("qwen-image", frozenset()),
}  # fmt: skip


def vae(tensors: Tensors, header: Header) -> Identity | None:
    """Recognise a VAE and count its latent channels: the input of its decoder, four times that in Flux.2's."""
    if (key := "taesd_decoder.1.weight") in tensors:
        stated = header.metadata.get("tae_latent_channels", "")
        channels = int(stated) if re.fullmatch(r"[1-9][0-9]{0,3}", stated) else dim(tensors, key, 1, 4)
        return Identity("vae", UNKNOWN, channels, key)
    if "quantize.embedding.weight" in tensors:  # VQGAN: RestoreFormer, CodeFormer
        return None
    for prefix in ("", "first_stage_model.", "vae."):
        if other := unsupported.vae_of(tensors, prefix):
            return Identity("vae", other[0], None, other[1])
        key = f"{prefix}decoder.conv_in.weight"
        if key in tensors:
            return _image_vae(tensors, prefix, key)
    return None


def _image_vae(tensors: Tensors, prefix: str, key: str) -> Identity:
    shape = tensors[key].shape
    if (
        len(shape) != 4 or dim(tensors, key, 1, 4) is None
    ):  # of five dimensions: a video model's, under diffusers' names
        return Identity("vae", UNKNOWN, None, key, never=EVERY if len(shape) == 5 else frozenset())
    if (norm := f"{prefix}bn.running_mean") in tensors:
        return Identity("vae", "flux2", shape[1] * 4, norm)
    return Identity("vae", UNKNOWN, shape[1], key)


def text_encoder(tensors: Tensors) -> Identity | None:
    """Recognise a text encoder (`detect_te_model`); families share them, so it names none."""
    for layer, part in ((30, "clip_g"), (22, "clip_h"), (0, "clip_l")):
        key = first_of(
            tensors,
            f"text_model.encoder.layers.{layer}.mlp.fc1.weight",
            f"transformer.resblocks.{layer}.ln_1.weight",  # OpenCLIP's names
        )
        if key:
            if any(name.startswith(("vision_model.", "visual.")) for name in tensors):
                return Identity(UNKNOWN, UNKNOWN, None, "CLIP with both its halves, for text and for images")
            return Identity("text_encoder", UNKNOWN, None, key, part)
    for key, widths in {
        "encoder.block.23.layer.1.DenseReluDense.wi_1.weight": {10240: "t5xxl", 5120: "t5xl"},
        "encoder.block.23.layer.1.DenseReluDense.wi.weight": {},
        "encoder.block.0.layer.0.SelfAttention.k.weight": {},
        "enc.blk.23.ffn_up.weight": {10240: "t5xxl", 5120: "t5xl"},  # in GGUF files
        "enc.blk.0.attn_k.weight": {},
    }.items():
        if key in tensors:
            return Identity("text_encoder", UNKNOWN, None, key, widths.get(dim(tensors, key, 0, 2) or 0, "t5"))
    llm = first_of(tensors, *_LLM)
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
    """Recognise the upscalers that the manifests name or people often use, and MAT, which fills holes."""
    if _MAT in tensors:
        return Identity("inpaint", UNKNOWN, None, _MAT)
    for prefix in ("", "params_ema.", "params."):
        for names in _UPSCALERS:
            if all(prefix + name in tensors for name in names):
                return Identity("upscale_model", UNKNOWN, None, prefix + names[0])
    return None


def by_architecture(header: Header) -> Identity | None:
    """Identify a GGUF file by its `general.architecture` if no tensor decides, as ComfyUI-GGUF does."""
    name = header.metadata.get("general.architecture", "")
    evidence = f"general.architecture {name}"
    if header.metadata.get("general.type") in {"clip-vision", "mmproj"}:  # the vision part of a text encoder
        return Identity("text_encoder", UNKNOWN, None, "general.type", "mmproj")
    if name in _GGUF_TEXT:
        return Identity("text_encoder", UNKNOWN, None, evidence, _GGUF_TEXT[name])
    if name in _GGUF_IMAGE:
        family, never = _GGUF_IMAGE[name]
        return Identity("diffusion_model", family, None, evidence, never=never)
    return None
