"""Generate the trial's models: for each real one a small file of the same name, kind and family.

Their headers contain the tensors by which ComfyUI distinguishes families, so that code which reads headers finds
what the real file has. The bytes depend on the manifest's entry alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import proc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gesso.manifest.schema import Model
    from gesso.settings import Project

MIRROR = "http://127.0.0.1:18190"  # the trial's own mirror, inside the instance
_SD_LATENTS, _FLUX_LATENTS = 4, 16
_DTYPE = "F8_E4M3"  # one byte per element

_SDXL_UNET = {
    "model.diffusion_model.input_blocks.0.0.weight": [320, _SD_LATENTS, 3, 3],
    "model.diffusion_model.label_emb.0.0.weight": [1280, 2816],
    "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": [640, 2048],
    "first_stage_model.decoder.conv_in.weight": [512, _SD_LATENTS, 3, 3],
}
_FLUX_UNET = {
    "img_in.weight": [3072, 64],
    "double_blocks.0.img_attn.norm.key_norm.scale": [128],
    "guidance_in.in_layer.weight": [3072, 256],
}


# Kind and family -> the tensors that identify them; matrices have their real width only, to keep the file small.
_BY_KIND_AND_FAMILY = {
    ("lora", "sdxl"): {
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": [4, 2048],
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_up.weight": [640, 4],
    },
    ("lora", "flux"): {
        "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": [4, 3072],
        "lora_unet_double_blocks_0_img_mod_lin.lora_down.weight": [4, 3072],
    },
    ("controlnet", "sdxl"): {
        "controlnet_cond_embedding.conv_in.weight": [16, 3, 3, 3],
        "conv_in.weight": [320, _SD_LATENTS, 3, 3],
        "add_embedding.linear_1.weight": [4, 2816],
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": [4, 2048],
    },
    ("controlnet", "flux"): {
        "controlnet_blocks.0.weight": [4, 3072],
        "controlnet_x_embedder.weight": [3072, 64],
        "transformer_blocks.0.attn.add_q_proj.weight": [4, 3072],
    },
    ("ipadapter", "sdxl"): {"image_proj.proj.weight": [4, 1024], "ip_adapter.1.to_k_ip.weight": [4, 2048]},
}
_BY_KIND = {
    "clip_vision": {f"vision_model.encoder.layers.{layer}.layer_norm1.weight": [1280] for layer in (0, 30)},
    "upscale_model": {"residual_layer.0.residual_layer.0.layer.0.fn.0.weight": [4, 4, 1, 1]},
    "inpaint": {"synthesis.first_stage.conv_first.conv.weight": [4, 4, 3, 3]},
}
_T5 = {"encoder.block.23.layer.1.DenseReluDense.wi_1.weight": [10240, 4]}
_CLIP_L = {"text_model.encoder.layers.0.mlp.fc1.weight": [4, 768]}


def tensors_of(model: Model) -> dict[str, list[int]]:
    """Return tensor names and shapes: those that identify the kind and family, else one small tensor."""
    if model.kind in {"checkpoint", "diffusion_model"}:
        return _FLUX_UNET if model.family == "flux" else _SDXL_UNET
    if model.kind == "vae":
        channels = _FLUX_LATENTS if model.family == "flux" else _SD_LATENTS
        return {"decoder.conv_in.weight": [512, channels, 3, 3], "encoder.conv_out.weight": [2 * channels, 512, 3, 3]}
    if model.kind == "text_encoder":
        return _T5 if "t5" in model.name else _CLIP_L
    return _BY_KIND_AND_FAMILY.get((model.kind, model.family)) or _BY_KIND.get(model.kind) or {"weight": [16]}


def content(model: Model) -> bytes:
    """Return the content: a safetensors file of zeros, a GGUF header, or (pickle formats) unloadable bytes."""
    if model.name.endswith(".gguf"):
        key, value = b"general.architecture", b"t5encoder"
        pair = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(value)) + value
        return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair
    if not model.name.endswith((".safetensors", ".sft")):
        return f"a trial stand-in for {model.name}\n".encode()
    header: dict[str, object] = {"__metadata__": {"gesso": f"trial stand-in for {model.name}"}}
    offset = 0
    for name, shape in tensors_of(model).items():
        end = offset + math.prod(shape)
        header[name] = {"dtype": _DTYPE, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    blob = json.dumps(header, separators=(",", ":"), sort_keys=False).encode()
    blob += b" " * (-len(blob) % 8)
    return struct.pack("<Q", len(blob)) + blob + bytes(offset)


def overlay(arch: str, models: Iterable[Model]) -> str:
    """Return manifests/trial/ARCH.yaml: the same models by name, with the small files' size, sha256 and source."""
    lines = [
        "# yaml-language-server: $schema=../schema.json",
        f"# Made by `invoke generate` from {arch}.yaml: do not edit.",
        "models:",
    ]
    for model in models:
        data = content(model)
        lines += [
            f"  - name: {model.name}",
            f"    sources: [{MIRROR}/{model.name}]",
            f"    sha256: {hashlib.sha256(data).hexdigest()}",
            f"    size: {len(data)}",
        ]
    return "\n".join(lines) + "\n"


def write_files(models: Iterable[Model], folder: Path) -> None:
    """Write the models' files below `folder`."""
    for model in models:
        path = folder / model.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(model))


@contextmanager
def mirror(project: Project, models: Iterable[Model]) -> Iterator[None]:
    """Serve the trial's models at the URLs of their manifest while the block runs.

    Raises ServerExitedError where that port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="gesso-trial-") as folder:
        write_files(models, Path(folder))
        port = MIRROR.rsplit(":", 1)[1]
        command: list[str | Path] = [
            sys.executable,
            project.images / "standin" / "mirror",
            "--root",
            folder,
            "--port",
            port,
        ]
        with proc.background_server(command):
            yield
