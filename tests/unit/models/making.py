"""What the tests of models share: wanted models, files on disk that are as large as they are said to be, answers."""

from __future__ import annotations

import hashlib
import http.client
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso.manifest.schema import Model
from gesso.models.net.answer import Answer
from gesso.models.net.hosts import Announced

from .conftest import head_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gesso.models.folder import Folder

NAME = "vae/sdxl_vae_fp16.safetensors"
# A checkpoint of SDXL and a VAE, reduced to the tensors that decide, and to widths that cost nothing.
SDXL = {
    "model.diffusion_model.input_blocks.0.0.weight": [320, 4, 3, 3],
    "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": [8, 2048],
    "model.diffusion_model.label_emb.0.0.weight": [1, 2816],
    "model.diffusion_model.out.2.weight": [4, 2, 3, 3],
    "first_stage_model.decoder.conv_in.weight": [2, 4, 3, 3],
}


def vae_of(channels: int) -> bytes:
    """Give a whole (and small) VAE file with so many latent channels."""
    head, size = head_of({"decoder.conv_in.weight": [8, channels, 3, 3], "decoder.conv_out.weight": [3, 8, 3, 3]})
    return head + bytes(n % 251 for n in range(size - len(head)))


VAE = vae_of(4)


def wanted(data: bytes = VAE, name: str = NAME, **more: Any) -> Model:
    """Give the wanted model whose bytes are `data`."""
    entry = {
        "name": name, "sources": ("https://huggingface.co/org/repo/resolve/main/file.safetensors",),
        "sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "kind": "vae", "family": "sdxl",
        "tier": "required", "license": "MIT", "size_confirmed": True,
    }  # fmt: skip
    return Model.model_validate(entry | more)


def put(folder: Folder, name: str, data: bytes) -> Path:
    """Put bytes at a model's final path."""
    path = folder.path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def descriptors() -> int:
    """Give how many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def keep_times(path: Path, stat: os.stat_result) -> None:
    """Put a file's times back as somebody would who hides a change."""
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def answer(status: int, headers: Mapping[str, str] | bytes, url: str = "https://host.example/f") -> Answer:
    """Give the head of an answer, its headers parsed as they come over the wire."""
    raw = headers
    if not isinstance(raw, bytes):
        raw = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in raw.items()) + b"\r\n"
    return Answer(status, http.client.parse_headers(io.BytesIO(raw)), url, Announced())
