"""What files are, by the tensors that decide; and what contradicts a manifest."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gesso.builder.image import trial
from gesso.manifest.load import load
from gesso.models.identify.family import CHANNELS, identify, mismatch
from gesso.models.identify.header import read_header
from gesso.models.identify.identity import DITS, UNETS
from tests.unit.models.conftest import Reader, gguf, gguf_file, head_of, text

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[4]
UNET = "model.diffusion_model."
Shapes = dict[str, list[int]]


def unet(text: int, label: int | None = None, width: int = 320, taken: int = 4, prefix: str = UNET) -> Shapes:
    shapes = {
        f"{prefix}input_blocks.0.0.weight": [width, taken, 3, 3],
        f"{prefix}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": [640, text],
    }
    return shapes | ({f"{prefix}label_emb.0.0.weight": [1280, label]} if label else {})


def diffusers(text: int, label: int | None = None) -> Shapes:
    shapes = {
        "conv_in.weight": [320, 4, 3, 3],
        "time_embedding.linear_1.weight": [1280, 320],
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": [640, text],
    }
    return shapes | ({"add_embedding.linear_1.weight": [1280, label]} if label else {})


def vae(channels: int, prefix: str = "") -> Shapes:
    return {f"{prefix}decoder.conv_in.weight": [512, channels, 3, 3]}


FLUX = {"img_in.weight": [3072, 64], "double_blocks.0.img_attn.norm.key_norm.scale": [128]}
FLUX2 = {**FLUX, "double_stream_modulation_img.lin.weight": [8, 8]}
SD3 = {"joint_blocks.0.context_block.attn.qkv.weight": [8, 8]}
CHECKPOINT_VAE = vae(4, "first_stage_model.")
COND = {"controlnet_cond_embedding.conv_in.weight": [16, 3, 3, 3]}
DIT = {"controlnet_blocks.0.weight": [8, 8]}
KOHYA = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight"
PEFT = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight"
OLD = "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight"
T5 = "encoder.block.23.layer.1.DenseReluDense.wi_1.weight"
CLIP = "text_model.encoder.layers.{}.mlp.fc1.weight"
VISION = {"vision_model.encoder.layers.0.layer_norm1.weight": [1280]}
CASES: list[tuple[Shapes, str, str, int | None]] = [
    ({**unet(768), **CHECKPOINT_VAE}, "checkpoint", "sd15", 4),
    ({**unet(1024), "cond_stage_model.x": [1]}, "checkpoint", "sd2", 4),
    ({**unet(2048, 2816), "conditioner.x": [1]}, "checkpoint", "sdxl", 4),
    ({**unet(1280, 2560, 384), **CHECKPOINT_VAE}, "checkpoint", "sdxl-refiner", 4),
    (unet(2048, 2816), "diffusion_model", "sdxl", 4),
    (unet(2048, 2816, prefix=""), "diffusion_model", "sdxl", 4),
    ({**unet(2048, 2816, taken=9), f"{UNET}out.2.weight": [4, 320, 3, 3]}, "diffusion_model", "sdxl", 4),
    (unet(2048, 2816, taken=9), "diffusion_model", "sdxl", None),
    (unet(2048), "diffusion_model", "unknown", 4),
    (unet(2048, 5632), "diffusion_model", "unknown", 4),
    (unet(768, width=256), "diffusion_model", "unknown", 4),
    ({**unet(1024), f"{UNET}input_blocks.1.1.time_stack.0.attn1.to_q.weight": [8, 8]}, "diffusion_model", "svd", 4),
    (diffusers(2048, 2816), "diffusion_model", "sdxl", None),
    (SD3, "diffusion_model", "sd3", 16),
    (FLUX, "diffusion_model", "flux", 16),
    ({**{UNET + name: shape for name, shape in FLUX.items()}, "vae.x": [1]}, "checkpoint", "flux", 16),
    ({**FLUX, "txt_in.weight": [3072, 4096]}, "diffusion_model", "flux", 16),
    ({**FLUX, "txt_in.weight": [3072, 3584]}, "diffusion_model", "unknown", None),
    ({**FLUX, "distilled_guidance_layer.norms.0.scale": [8]}, "diffusion_model", "chroma", None),
    (FLUX2, "diffusion_model", "flux2", 128),
    (vae(4), "vae", "unknown", 4),
    (vae(16, "first_stage_model."), "vae", "unknown", 16),
    (vae(16, "vae."), "vae", "unknown", 16),
    ({**vae(32), "bn.running_mean": [128]}, "vae", "flux2", 128),
    ({"taesd_decoder.1.weight": [64, 16, 3, 3]}, "vae", "unknown", 16),
    ({KOHYA: [8, 2048]}, "lora", "sdxl", None),
    ({PEFT: [8, 768]}, "lora", "sd15", None),
    ({OLD: [8, 1024]}, "lora", "sd2", None),
    ({"transformer_blocks.0.attn2.to_k.lora_A.weight": [8, 2048]}, "lora", "unknown", None),
    ({**FLUX, "img_in.lora_A.weight": [8, 64]}, "lora", "unknown", None),
    ({**COND, **diffusers(2048, 2816)}, "controlnet", "sdxl", None),
    (COND, "controlnet", "unknown", None),
    ({"control_model.zero_convs.0.0.weight": [1], **unet(768, prefix="control_model.")}, "controlnet", "sd15", None),
    ({**DIT, "controlnet_x_embedder.weight": [8, 8]}, "controlnet", "flux", None),
    ({**DIT, **FLUX}, "controlnet", "flux", None),
    ({**DIT, "pos_embed_input.proj.weight": [8, 8]}, "controlnet", "sd3", None),
    ({**DIT, "transformer_blocks.0.img_mlp.net.0.proj.weight": [8, 8]}, "controlnet", "qwen-image", None),
    ({"controlnet_blocks.0.linear.weight": [8, 8]}, "controlnet", "flux", None),
    ({"lora_controlnet": [1], **unet(2048, 2816, prefix="")}, "controlnet", "unknown", None),
    ({"body.0.in_conv.weight": [8, 8]}, "controlnet", "unknown", None),
    ({"image_proj.proj.weight": [1], "ip_adapter.1.to_k_ip.weight": [640, 2048]}, "ipadapter", "sdxl", None),
    (VISION, "clip_vision", "unknown", None),
    ({**VISION, CLIP.format(0): [8, 8]}, "unknown", "unknown", None),
    ({"body.0.rdb1.conv1.weight": [8, 8]}, "upscale_model", "unknown", None),
    ({CLIP.format(0): [3072, 768]}, "text_encoder", "unknown", None),
    ({"weight": [16]}, "unknown", "unknown", None),
    ({}, "unknown", "unknown", None),
]


@pytest.mark.parametrize(("shapes", "kind", "family", "channels"), CASES)
def test_every_kind_and_family(shapes: Shapes, kind: str, family: str, channels: int | None) -> None:
    head, size = head_of(shapes)
    identity = identify(read_header(Reader(head, size), size))
    assert (identity.kind, identity.family, identity.latent_channels) == (kind, family, channels)
    assert mismatch(identity, kind, family) is None
    assert mismatch(identity, kind, "any") is None
    assert mismatch(identity, "inpaint", "flux") is None


@pytest.mark.parametrize(
    ("shapes", "part"),
    [
        ({CLIP.format(0): [8, 8], CLIP.format(30): [8, 8]}, "clip_g"),
        ({CLIP.format(0): [8, 8], CLIP.format(22): [8, 8]}, "clip_h"),
        ({CLIP.format(0): [8, 8]}, "clip_l"),
        ({T5: [10240, 4096]}, "t5xxl"),
        ({"encoder.block.0.layer.0.SelfAttention.k.weight": [8, 8]}, "t5"),
    ],
)
def test_text_encoders(shapes: Shapes, part: str) -> None:
    head, size = head_of(shapes)
    identity = identify(read_header(Reader(head, size), size))
    assert (identity.kind, identity.part) == ("text_encoder", part)


@pytest.mark.parametrize(
    ("architecture", "shapes", "found"),
    [
        ("t5encoder", {}, ("text_encoder", "unknown")),
        ("flux", {}, ("diffusion_model", "unknown")),
        ("flux", FLUX, ("diffusion_model", "flux")),
        ("flux", FLUX2, ("diffusion_model", "flux2")),
        ("sd3", {}, ("diffusion_model", "sd3")),
        ("wan", {}, ("diffusion_model", "wan")),
        ("llama", {}, ("text_encoder", "unknown")),
        ("bert", {}, ("unknown", "unknown")),
    ],
)
def test_gguf(architecture: str, shapes: Shapes, found: tuple[str, str]) -> None:
    data, size = gguf_file(gguf(architecture, shapes), shapes)
    identity = identify(read_header(Reader(data, size), size))
    assert (identity.kind, identity.family) == found


def test_a_tiny_vae_may_state_its_channels() -> None:
    head, size = head_of({"taesd_decoder.1.weight": [64, 32, 3, 3]}, tae_latent_channels="128")
    assert identify(read_header(Reader(head, size), size)).latent_channels == 128


@pytest.mark.parametrize(
    ("shapes", "kind", "family", "words"),
    [
        (vae(16), "vae", "sdxl", ("VAE for sdxl has 4 latent channels", "the file has 16")),
        (vae(4), "vae", "flux", ("VAE for flux has 16 latent channels", "the file has 4")),
        (vae(4), "checkpoint", "sdxl", ("a checkpoint", "a VAE")),
        (unet(768), "diffusion_model", "sdxl", ("sdxl", "sd15")),
        (unet(2048, 2816), "checkpoint", "sdxl", ("a checkpoint", "a diffusion model")),
        (FLUX, "diffusion_model", "sdxl", ("4 latent channels", "16")),
        (FLUX, "diffusion_model", "flux2", ("128 latent channels", "16")),
        ({KOHYA: [8, 768]}, "lora", "sdxl", ("sdxl", "sd15")),
        ({KOHYA: [8, 768]}, "ipadapter", "sd15", ("an IP-Adapter", "a LoRA")),
    ],
)
def test_a_mismatch_names_both_sides(shapes: Shapes, kind: str, family: str, words: tuple[str, ...]) -> None:
    head, size = head_of(shapes)
    sentence = mismatch(identify(read_header(Reader(head, size), size)), kind, family)
    assert sentence is not None
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize("name", ["\x1b[2J\n.{}", "\u202e.{}", "x" * 900 + ".{}"])
def test_names_from_the_file_are_printed_with_care(name: str) -> None:
    head, size = head_of({name.format("lora_A.weight"): [8, 8]})
    identity = identify(read_header(Reader(head, size), size))
    sentence = mismatch(identity, "vae", "sdxl")
    assert sentence is not None
    assert sentence.isprintable()
    assert sentence.isascii()
    assert len(sentence) < 250


def test_a_diffusion_model_may_come_in_a_checkpoint() -> None:
    head, size = head_of({**unet(2048, 2816), **CHECKPOINT_VAE})
    assert mismatch(identify(read_header(Reader(head, size), size)), "diffusion_model", "sdxl") is None


@pytest.mark.parametrize("arch", ["sdxl", "flux"])
def test_the_trial_models_are_what_their_manifest_says(arch: str) -> None:
    kinds = set()
    for model in load(ROOT / "manifests" / f"{arch}.yaml", root=ROOT).manifest.models:
        if not model.name.endswith((".safetensors", ".sft", ".gguf")):
            continue
        data = trial.content(model)
        assert len(data) < 8 << 20
        header = read_header(Reader(data), len(data))
        assert header.end == len(data)
        identity = identify(header)
        assert mismatch(identity, model.kind, model.family) is None, model.name
        assert identity.kind == model.kind, model.name
        if model.kind in {"checkpoint", "diffusion_model", "controlnet", "lora", "ipadapter"}:
            assert identity.family == model.family, model.name
        if model.kind in {"checkpoint", "diffusion_model", "vae"}:
            assert identity.latent_channels == {"sdxl": 4, "flux": 16}[arch]
        other = {"sdxl": "flux", "flux": "sdxl"}[model.family] if model.family != "any" else ""
        if other and model.kind not in {"text_encoder", "inpaint"}:
            assert mismatch(identity, model.kind, other), model.name
        kinds.add(model.kind)
    assert len(kinds) > 4


def test_a_quantised_weight_says_nothing_by_its_shape() -> None:
    shapes = {**unet(2048, 2816), f"{UNET}out.2.weight": [4, 320, 3, 3]}
    for packed, family in (("U8", "unknown"), ("F8_E4M3", "sdxl"), ("BF16", "sdxl")):
        head, size = head_of(shapes, dtype=packed)
        identity = identify(read_header(Reader(head, size), size))
        assert identity.family == family
        assert mismatch(identity, "diffusion_model", "sdxl") is None


@pytest.mark.parametrize(
    ("name", "family"),
    [("NunchakuFluxTransformer2dModel", "flux"), ("NunchakuQwenImageTransformer2DModel", "qwen-image")],
)
def test_nunchaku_says_it_in_the_metadata(name: str, family: str) -> None:
    head, size = head_of({"transformer_blocks.0.qkv_proj.qweight": [8, 8]}, model_class=name)
    identity = identify(read_header(Reader(head, size), size))
    assert (identity.kind, identity.family) == ("diffusion_model", family)


@pytest.mark.parametrize(
    ("shapes", "kind", "impossible"),
    [
        (unet(2048, 5632), "diffusion_model", CHANNELS),  # Kolors
        ({"transformer_blocks.0.attn1.to_k.lora_A.weight": [8, 2048]}, "lora", CHANNELS),  # LTX-Video
        ({"blocks.0.self_attn.q.lora_A.weight": [8, 5120]}, "lora", CHANNELS),  # Wan
        ({"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": [8, 768]}, "lora", ()),
        ({"text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight": [8, 768]}, "lora", ()),
        ({"conv_in.weight": [320, 64, 3, 3], "body.0.block2.weight": [8, 8]}, "controlnet", [*DITS, "sdxl"]),
        ({"conv_in.weight": [320, 768, 3, 3], "body.0.block2.weight": [8, 8]}, "controlnet", [*DITS, "sd15"]),
        ({"image_proj.norm.weight": [4096], "ip_adapter.0.to_k_ip.weight": [3072, 4096]}, "ipadapter", UNETS),
        ({"decoder.conv_in.weight": [384, 16, 3, 3, 3]}, "vae", CHANNELS),  # Wan's and Qwen-Image's, by diffusers
        ({"joint_blocks.0.context_block.attn.qkv.weight": [1], "x_embedder.proj.weight": [1, 4, 2, 2]},
         "diffusion_model", ["sd15", "sdxl"]),
    ],
)  # fmt: skip
def test_what_it_cant_be(shapes: Shapes, kind: str, impossible: Iterable[str]) -> None:
    head, size = head_of(shapes)
    identity = identify(read_header(Reader(head, size), size))
    assert identity.kind == kind
    found = {family for family in CHANNELS if mismatch(identity, kind, family)}
    assert found >= set(impossible)
    assert impossible or not found
    assert impossible is not UNETS or found == UNETS  # and no other


@pytest.mark.parametrize(
    ("architecture", "fits"),
    [
        ("flux", {"flux", "flux2"}),
        ("sd1", {"sd15", "sd2"}),
        ("sd3", {"sd3"}),
        ("sdxl", {"sdxl", "sdxl-refiner", "sd2"}),
    ],
)
def test_what_a_gguf_without_telling_tensors_cant_be(architecture: str, fits: set[str]) -> None:
    data = gguf(architecture, {})
    identity = identify(read_header(Reader(data), len(data)))
    assert {family for family in CHANNELS if not mismatch(identity, "diffusion_model", family)} == fits


def test_the_eyes_of_a_language_model_in_gguf() -> None:
    data = gguf("clip", {}, text("general.type") + struct.pack("<I", 8) + text("mmproj"))
    identity = identify(read_header(Reader(data), len(data)))
    assert (identity.kind, identity.part) == ("text_encoder", "mmproj")
