"""Recognise LoRAs and similar adapters: which diffusion model they fit, by block names, widths and block counts.

The names are those of ComfyUI's lora.py (`model_lora_keys_unet`): kohya, diffusers and PEFT, OneTrainer, SimpleTuner,
XLabs. Many models share names and widths, so that a family is named only where no other that is known has both.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from gesso.models.identify.identity import CONTEXTS, DITS, EVERY, UNETS, UNKNOWN, Identity, context, dim

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gesso.models.identify.identity import Tensors

    Verdict = tuple[str, frozenset[str], str]  # family, the ones that it can't be, evidence

# The half that takes a layer's input in (its second dimension is the layer's width), and the one that gives its output.
_DOWN = r"(\.lora_(down|A)(\.default)?|[._]lora\d?\.down|\.lora_linear_layer\.down)(\.weight)?\Z"
_UP = r"(\.lora_(up|B)(\.default)?|[._]lora\d?\.up|\.lora_linear_layer\.up)(\.weight)?\Z"
_IN, _OUT = re.compile(_DOWN), re.compile(_UP)
_KIN = re.compile(r"\.(hada_w[12]_[ab]|lokr_w[12](_[ab])?|oft_blocks|dora_scale|diff|diff_b|set_weight)\Z")
_UNET = re.compile(r"(^|[._])(down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)[._]")
_TEXT = re.compile(r"attn2[._](processor[._])?to_k" + _DOWN)
_DEEP = re.compile(r"transformer_blocks[._]([4-9])[._]")  # only SDXL's blocks are that deep; the refiner has 4 a block
_DOUBLE = re.compile(r"(^|[._])(?:double_blocks|(?<!single_)transformer_blocks)[._](\d+)[._]")
_SINGLE = re.compile(r"(^|[._])single_(?:transformer_)?blocks[._](\d+)[._]")
_BLOCKS = re.compile(r"(^|[._])(blocks|layers)[._]\d+[._]")
_TEXT_MODEL = re.compile(
    r"(lora_te|lora_prior_te|text_encoder|text_model|te\d?[._]|t5xxl|clip_|conditioner|cond_stage_model)"
)
_ATTENTION = re.compile(r"(to_q|qkv|qkv_lora\d?|linear1|linear1_qkv)$")
_FUSED = re.compile(r"(linear1|to_qkv_mlp_proj)$")  # attention and the first half of the MLP in one matrix
_MLP = re.compile(r"(proj_mlp|img_mlp[._]0|ff[._]net[._]0[._]proj)$")
# Flux.2's: one modulation for all blocks, and diffusers' names for its matrices
_FLUX2_ONLY = re.compile(r"(single|double)_stream_modulation|to_qkv_mlp_proj|ff_context[._]linear_(in|out)")
_MODULATION = re.compile(
    r"(img_mod[._]lin|norm1[._]linear|(?<!stream_)modulation[._]lin|[._]norm[._]linear|vector_in[._]\w+)$"
)
_JOINT = re.compile(r"(^|[._])joint_blocks[._]\d")
# What tells Hunyuan Video, Qwen-Image, AuraFlow, and LTX-Video and PixArt, whose blocks are called like Flux's. (SD 3.5
# Medium has attn and attn2, but no attn1.)
_OTHERS = ("token_refiner", "img_mod.1", "img_mod_1", "img_mod.linear", "img_mod_linear", "img_mlp.net", "img_mlp_net",
           "joint_t", "attn1")  # fmt: skip
_SD3 = {1536, 2432}  # the widths of its two sizes
_FLUX_MLP, _FUSED_BY = 4, {7.0: "flux", 9.0: "flux2"}  # times the width


def lora(tensors: Tensors) -> Identity | None:
    """Recognise a LoRA or a similar adapter."""
    key = next((name for name in tensors if _IN.search(name) or _KIN.search(name)), None)
    if key is None:
        return None
    for rule in (_for_unet, _for_dit):
        if verdict := rule(tensors):
            family, never, evidence = verdict
            return Identity("lora", family, None, evidence, never=never)
    return Identity("lora", UNKNOWN, None, key)


def _for_unet(tensors: Tensors) -> Verdict | None:
    key = next((name for name in tensors if _UNET.search(name)), None)
    if key is None:
        return None
    if any("temporal" in name or "time_stack" in name or "motion_modules" in name for name in tensors):
        return UNKNOWN, DITS, key
    texts = [name for name in tensors if _TEXT.search(name) and _UNET.search(name)]
    if family := CONTEXTS.get(context(tensors, texts) or 0):
        return family, frozenset(), texts[0]
    if not texts and (deep := next((name for name in tensors if _DEEP.search(name) and _UNET.search(name)), None)):
        return "sdxl", frozenset(), deep
    return UNKNOWN, DITS, texts[0] if texts else key


def _for_dit(tensors: Tensors) -> Verdict | None:
    """Flux's and SD 3's blocks, which others have too; what has blocks of another name fits none of the families."""
    trunk = [name for name in tensors if not _TEXT_MODEL.match(name)]
    if joint := next((name for name in trunk if _JOINT.search(name)), None):
        return "sd3", frozenset(), joint
    key = next((name for name in trunk if _DOUBLE.search(name) or _SINGLE.search(name)), None)
    if key is None:
        other = next((name for name in trunk if _BLOCKS.search(name)), None)
        return (UNKNOWN, EVERY, other) if other else None
    if other := next((name for name in trunk if any(word in name for word in _OTHERS)), None):
        return UNKNOWN, EVERY, other
    seen = _look(tensors, trunk)
    never = UNETS | {family for family, fits in _FITS.items() if not fits(seen)}
    for family, evidence in (("flux", seen.modulated), ("flux2", seen.fused == "flux2"), ("sd3", seen.width in _SD3)):
        if evidence and family not in never and seen.width:
            return family, frozenset(), seen.modulated or key
    return UNKNOWN, never, key


class _Seen(NamedTuple):
    """What a LoRA for a DiT shows: how many blocks of each kind, how wide they are, and by how much the MLPs widen."""

    double: int
    single: int
    native: bool  # named as in Flux's own code, not as in diffusers
    width: int | None
    fused: str  # whose matrix of attention and MLP in one, by height or name: flux, flux2 or ""
    mlp: bool  # an MLP of four times the width
    modulated: str | None  # a tensor for a block's own modulation, which Flux.2 and Chroma don't have


def _look(tensors: Tensors, names: list[str]) -> _Seen:
    width = next((dim(tensors, n, 1, 2) for n in names if _IN.search(n) and _ATTENTION.search(_layer(n))), None)
    outputs = [(_layer(name), dim(tensors, name, 0, 2)) for name in names if _OUT.search(name)]
    fused = next((tall for layer, tall in outputs if tall and _FUSED.search(layer)), None)
    flux2 = any(_FLUX2_ONLY.search(name) for name in names)
    mlp = next((tall for layer, tall in outputs if tall and _MLP.search(layer)), None)
    return _Seen(
        double=_highest(_DOUBLE, names) + 1,
        single=_highest(_SINGLE, names) + 1,
        native=any("double_blocks" in name for name in names),
        width=width,
        fused="flux2" if flux2 else _FUSED_BY.get(fused / width, "") if width and fused else "",
        mlp=bool(width and mlp == _FLUX_MLP * width),
        modulated=next((name for name in names if _MODULATION.search(_layer(name))), None),
    )


def _flux(seen: _Seen) -> bool:
    return seen.double <= 19 and seen.single <= 38 and seen.width in {None, 3072} and seen.fused != "flux2"


def _flux2(seen: _Seen) -> bool:
    fits = seen.double <= 8 and seen.single <= 48 and seen.width in {None, 3072, 4096, 6144}
    return fits and seen.fused != "flux" and not seen.mlp


def _sd3(seen: _Seen) -> bool:
    return not seen.single and not seen.native and seen.width in {None, *_SD3}


_FITS = {"flux": _flux, "flux2": _flux2, "sd3": _sd3}


def _highest(pattern: re.Pattern[str], names: Iterable[str]) -> int:
    return max((int(found[2]) for name in names if (found := pattern.search(name))), default=-1)


def _layer(name: str) -> str:
    """Return the name of the layer that a tensor changes."""
    return _KIN.sub("", _OUT.sub("", _IN.sub("", name)))
