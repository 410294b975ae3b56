"""Sample data: an image in an engine, the same image in a registry, and its contents."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from gesso.builder.evidence.contents import Contents, Distribution
from gesso.builder.evidence.dpkg import Package
from gesso.builder.registry.client import RawManifest, digest_of
from gesso.builder.registry.local_image import LocalImage, LocalLayer
from gesso.builder.registry.reference import Reference
from gesso.builder.registry.remote_image import RemoteImage, RemoteLayer

REPOSITORY = Reference("ghcr.io", "me/gesso")
LOCK = "c0ffee" * 10 + "abcd"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA = "ab" * 32
LABELS = {
    "dev.gesso.arch": "sdxl",
    "dev.gesso.trial": "false",
    "dev.gesso.lock": LOCK,
    "dev.gesso.comfyui": COMMIT,
    "dev.gesso.sqlalchemy": "2.0.58",
    "org.opencontainers.image.version": "0.1.0",
    "org.opencontainers.image.revision": COMMIT,
}
RECORD: dict[str, Any] = {
    "format": 1,
    "gesso": "0.1.0",
    "arch": "sdxl",
    "trial": False,
    "lock": LOCK,
    "base": {"image": "debian:trixie-slim", "digest": f"sha256:{'b' * 64}"},
    "comfyui": {"git": "https://github.com/Comfy-Org/ComfyUI", "ref": "v0.33.0", "commit": COMMIT, "tree": "t" * 40},
    "nodes": {
        "pack": {"git": "https://git.example/a/pack.git", "ref": "main", "commit": COMMIT[::-1]},
        "own": {"path": "images/own"},
    },
    "python": {"version": "3.13", "pins": {"sqlalchemy": "2.0.58", "torch": "2.9.1"}},
    "models": [
        {
            "name": "vae/a.safetensors", "sources": ["https://models.example/a", "https://mirror.example/a"],
            "sha256": SHA, "size": 335, "kind": "vae", "family": "sdxl", "tier": "required", "license": "MIT",
            "gated": False,
        },
        {
            "name": "loras/b.safetensors", "sources": ["https://models.example/b"], "sha256": "cd" * 32, "size": None,
            "kind": "lora", "family": "sdxl", "tier": "optional", "license": "FLUX-1-dev-non-commercial", "gated": True,
        },
    ],
    "baked": ["vae/a.safetensors"],
    "workflows": {"gold.json": "ef" * 32},
}  # fmt: skip
CONTENTS = Contents(
    RECORD,
    (Distribution("sqlalchemy", "2.0.58", ("11" * 32, "22" * 32)), Distribution("torch", "2.9.1", ("33" * 32,))),
    (Distribution("pydantic", "2.13.0"),),
    (Package("libc6", "2.41-12", "amd64", "glibc"), Package("python3", "3.13.5-1", "amd64")),
    "trixie",
)
CREATED = "2026-11-25T07:44:23.658921275Z"


def diff_id(number: int) -> str:
    return f"sha256:{number:064x}"


def config(labels: dict[str, str] | None = None, layers: int = 3) -> dict[str, Any]:
    instructions = [f"COPY part{n} /{n} # buildkit" for n in range(layers)]
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": CREATED,
        "config": {"Labels": dict(LABELS if labels is None else labels)},
        "rootfs": {"type": "layers", "diff_ids": [diff_id(n) for n in range(layers)]},
        "history": [{"created_by": "ENV A=1", "empty_layer": True}, *({"created_by": by} for by in instructions)],
    }


def local(labels: dict[str, str] | None = None, layers: int = 3) -> LocalImage:
    """Return the engine's image; its id is its config's digest, as in engines."""
    content = json.dumps(config(labels, layers)).encode()
    parts = tuple(LocalLayer(diff_id(n), 1000 * (n + 1), f"COPY part{n} /{n}") for n in range(layers))
    return LocalImage("gesso:sdxl", digest_of(content), LABELS if labels is None else labels, CREATED, 6000, parts)


def remote(labels: dict[str, str] | None = None, layers: int = 3) -> RemoteImage:
    """Return the same image as a registry describes it."""
    content = json.dumps(config(labels, layers)).encode()
    parts = tuple(
        RemoteLayer(f"sha256:{n + 16:064x}", 100 * (n + 1), diff_id(n), f"COPY part{n} /{n}") for n in range(layers)
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"digest": digest_of(content), "size": len(content)},
        "layers": [{"digest": part.digest, "size": part.size} for part in parts],
    }
    raw = RawManifest(json.dumps(manifest).encode(), str(manifest["mediaType"]))
    found = RemoteImage(REPOSITORY, raw, digest_of(content), len(content), config(labels, layers), parts)
    return replace(found, reference=REPOSITORY.at(found.digest))
