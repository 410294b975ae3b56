"""Model files with the real names, types and shapes of all tensors, and no weights: sparse files of gigabytes."""

from __future__ import annotations

import gzip
import json
import math
import struct
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}
# The project's model files, and the header that each is made from.
FILES = {
    "checkpoints/Juggernaut-XL-v9.safetensors": "sdxl-checkpoint",
    "vae/sdxl_vae_fp16.safetensors": "vae-4-channels",
    "vae/flux_vae.safetensors": "vae-16-channels",
    "diffusion_models/flux1-krea-dev_fp8_scaled.safetensors": "flux-unet-1+1-blocks",
    "text_encoders/clip_l.safetensors": "clip-l",
    "text_encoders/t5xxl_fp8_e4m3fn.safetensors": "t5xxl-fp8",
}
# An encoder that outputs only zeros hides failure B: ComfyUI widens zeros to any model's channels.
NUDGED = ("encoder.conv_out.bias", "quant_conv.bias")
_PICKLES = """
import sys, torch
from pathlib import Path
models, z = Path(sys.argv[1]), torch.zeros
torch.save({"head": z(320, 5, 3, 3)}, models / "inpaint/fooocus_inpaint_head.pth")
torch.save({}, models / "inpaint/inpaint_v26.fooocus.patch")
conv = lambda name, out, into: {f"{name}.weight": z(out, into, 3, 3), f"{name}.bias": z(out)}
esrgan = conv("model.0", 64, 3)  # of the true class, with one block in place of 23
for dense in (1, 2, 3):
    for n in range(5):
        esrgan |= conv(f"model.1.sub.0.RDB{dense}.conv{n + 1}.0", 64 if n == 4 else 32, 64 + 32 * n)
for name, out in {"model.1.sub.1": 64, "model.3": 64, "model.6": 64, "model.8": 64, "model.10": 3}.items():
    esrgan |= conv(name, out, 64)
torch.save(esrgan, models / "upscale_models/4x_NMKD-Superscale-SP_178000_G.pth")
"""


def make(models: Path, headers: Path, python: Path) -> None:
    """Create every model that the gold graphs name."""
    for folder in ("inpaint", "upscale_models", "loras", "controlnet", "ipadapter", "clip_vision", "style_models"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    for name, header in FILES.items():
        tensors = json.loads(gzip.decompress((headers / f"{header}.json.gz").read_bytes()))
        write(models / name, tensors, nudged=NUDGED if name.startswith("vae/") else ())
    subprocess.run([str(python), "-c", _PICKLES, str(models)], check=True, timeout=120)


def write(path: Path, tensors: dict[str, tuple[str, list[int]]], nudged: tuple[str, ...] = ()) -> None:
    """Write a file of zeros with this header; tensors in `nudged` get small numbers."""
    spans: dict[str, tuple[int, int]] = {}
    at = 0
    for name, (dtype, shape) in tensors.items():
        spans[name] = (at, at + BYTES[dtype] * math.prod(shape))
        at = spans[name][1]
    header = {n: {"dtype": t, "shape": s, "data_offsets": spans[n]} for n, (t, s) in tensors.items()}
    blob = json.dumps(header, separators=(",", ":")).encode()
    blob += b" " * (-len(blob) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(blob)) + blob)
        file.truncate(8 + len(blob) + at)
        for name in set(nudged) & set(tensors):
            start, end = spans[name]
            file.seek(8 + len(blob) + start)
            file.write(_quarters(tensors[name][0], end - start))


def _quarters(dtype: str, size: int) -> bytes:
    """Return that many bytes of 0.25."""
    one = {"F32": struct.pack("<f", 0.25), "F16": struct.pack("<e", 0.25), "BF16": struct.pack("<f", 0.25)[2:]}[dtype]
    return one * (size // len(one))
