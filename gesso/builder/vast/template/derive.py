"""Derive a host's requirements from torch's build, the models and the image's sizes. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso.errors import ManifestError
from gesso.models.tiers import TIERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gesso.builder.lock.python_pins import Pin
    from gesso.builder.publish.published import Published
    from gesso.manifest.schema import Manifest, Model

# Distributions that carry CUDA's version. Others of NVIDIA's (cuBLAS, cuDNN, ...) have their own.
_CUDA_PACKAGES = re.compile(r"(cuda-toolkit|nvidia-cuda-(runtime|nvrtc|cupti))(-cu\d+)?\Z")
_CUDA_SUFFIX = re.compile(r"\+cu(\d+)(\d)\Z")  # torch==2.9.1+cu128
_LARGE_KINDS = ("checkpoint", "diffusion_model")
_ASSUMED_SIZES = {True: 12_000_000_000, False: 500_000_000}  # bytes, by whether the kind is large


@dataclass(frozen=True)
class Needs:
    """A host's requirements, and what takes the disk space; in bytes unless the name has a unit.

    `unsized` are required models whose size is missing in the lock.
    """

    gpu_mb: int
    cuda: str
    disk_gb: int
    inet_down_mbps: int
    ports: int
    required: int
    models_on_disk: int
    image: int
    unsized: tuple[str, ...]

    def filters(self) -> dict[str, dict[str, Any]]:
        """Return them as conditions on offers. In Vast.ai's API, memory is in MB."""
        return {
            "gpu_ram": {"gte": self.gpu_mb},
            "cuda_max_good": {"gte": float(self.cuda)},
            "inet_down": {"gt": self.inet_down_mbps},
            "disk_space": {"gte": self.disk_gb},
            "direct_port_count": {"gte": self.ports},
        }


def cuda_of(pins: Sequence[Pin]) -> str:
    """Return the CUDA version that the locked torch was built for.

    Raises ManifestError where the pins disagree, or none has one.
    """
    found: dict[str, list[str]] = {}
    for pin in pins:
        local = _CUDA_SUFFIX.search(pin.version) if pin.name == "torch" else None
        if local:
            found.setdefault(f"{local[1]}.{local[2]}", []).append(f"torch {pin.version}")
        elif _CUDA_PACKAGES.fullmatch(pin.name):
            found.setdefault(".".join(pin.version.split(".")[:2]), []).append(f"{pin.name} {pin.version}")
    if len(found) == 1:
        return next(iter(found))
    versions = "; ".join(f"{version} by {', '.join(names)}" for version, names in sorted(found.items()))
    why = f"its pins disagree: {versions}" if found else "no pin is of CUDA: torch is built for a CPU"
    raise ManifestError(f"the Python lock has no single CUDA version: {why}", "correct `python`, then `invoke lock`")


def needs(manifest: Manifest, models: Sequence[Model], pins: Sequence[Pin], image: Published) -> Needs:
    """Derive a host's requirements; `models` with the lock's sizes.

    Raises ManifestError where manifest and lock have different CUDA versions.
    """
    vast = manifest.vast
    built = cuda_of(pins)
    if manifest.hardware.cuda != built:
        raise ManifestError(
            f"hardware.cuda is {manifest.hardware.cuda}, but the locked torch is built for CUDA {built}",
            f'set `hardware.cuda: "{built}"`, or require another torch',
        )
    cuda = vast.cuda or built
    if _version_tuple(cuda) < _version_tuple(built):
        raise ManifestError(f"vast.cuda is {cuda}, less than the {built} of the locked torch", "leave `vast.cuda` out")
    required, models_on_disk = _up_to_tier(models, "required"), _up_to_tier(models, vast.tier)
    disk = sum(map(size_of, models_on_disk)) + image.unpacked + vast.headroom_gb * 10**9
    return Needs(
        gpu_mb=(vast.gpu_gb or manifest.hardware.vram_gb) * 1000,  # a "16 GB" card has 15 to 16 times 1024 MB
        cuda=cuda,
        disk_gb=math.ceil(disk / 10**9),
        inet_down_mbps=vast.inet_down_mbps,
        ports=len(vast.ports) + (vast.launch != "args"),
        required=sum(map(size_of, required)),
        models_on_disk=sum(map(size_of, models_on_disk)),
        image=image.unpacked,
        unsized=tuple(model.name for model in required if model.size is None),
    )


def size_of(model: Model) -> int:
    """Return a model's bytes; where the lock has no size, a generous assumption for its kind."""
    return model.size if model.size is not None else _ASSUMED_SIZES[model.kind in _LARGE_KINDS]


def _up_to_tier(models: Iterable[Model], tier: str) -> list[Model]:
    tiers = TIERS[: TIERS.index(tier) + 1]
    return [model for model in models if model.tier in tiers]


def _version_tuple(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
