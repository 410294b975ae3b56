"""What a host must have for an image: derived from torch's build, the models, and what the registry says. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso.errors import ManifestError
from gesso.models.wanted import TIERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gesso.builder.lock.python_pins import Pin
    from gesso.builder.publish.published import Published
    from gesso.manifest.schema import Manifest, Model

# Distributions whose own version is CUDA's. Others of NVIDIA's (cuBLAS, cuDNN, ...) count for themselves.
_OF_CUDA = re.compile(r"(cuda-toolkit|nvidia-cuda-(runtime|nvrtc|cupti))(-cu\d+)?\Z")
_LOCAL = re.compile(r"\+cu(\d+)(\d)\Z")  # torch==2.9.1+cu128
_WHOLE = ("checkpoint", "diffusion_model")
_UNKNOWN = {True: 12_000_000_000, False: 500_000_000}  # bytes of a model of unknown size, by whether it is a whole one


@dataclass(frozen=True)
class Needs:
    """What a host must have, and where the disk goes: bytes, but for what says otherwise.

    `unsized` are required models whose size the lock does not know.
    """

    gpu_mb: int
    cuda: str
    disk_gb: int
    inet_down_mbps: int
    ports: int
    required: int
    kept: int
    image: int
    unsized: tuple[str, ...]

    def filters(self) -> dict[str, dict[str, Any]]:
        """Give them as conditions on offers; of memory Vast.ai's API speaks in MB."""
        return {
            "gpu_ram": {"gte": self.gpu_mb},
            "cuda_max_good": {"gte": float(self.cuda)},
            "inet_down": {"gt": self.inet_down_mbps},
            "disk_space": {"gte": self.disk_gb},
            "direct_port_count": {"gte": self.ports},
        }


def cuda_of(pins: Sequence[Pin]) -> str:
    """Give the CUDA that the locked torch was built for.

    Raises ManifestError where the pins disagree, or there is none.
    """
    found: dict[str, list[str]] = {}
    for pin in pins:
        local = _LOCAL.search(pin.version) if pin.name == "torch" else None
        if local:
            found.setdefault(f"{local[1]}.{local[2]}", []).append(f"torch {pin.version}")
        elif _OF_CUDA.fullmatch(pin.name):
            found.setdefault(".".join(pin.version.split(".")[:2]), []).append(f"{pin.name} {pin.version}")
    if len(found) == 1:
        return next(iter(found))
    said = "; ".join(f"{version} by {', '.join(names)}" for version, names in sorted(found.items()))
    why = f"its pins are of several: {said}" if found else "no pin of it is of CUDA: torch is built for a CPU"
    raise ManifestError(f"the Python lock does not say which CUDA it is for: {why}", "correct `python`, `invoke lock`")


def needs(manifest: Manifest, models: Sequence[Model], pins: Sequence[Pin], image: Published) -> Needs:
    """Derive what a host must have; `models` with the lock's sizes.

    Raises ManifestError where manifest and lock are of different CUDAs.
    """
    vast = manifest.vast
    built = cuda_of(pins)
    if manifest.hardware.cuda != built:
        raise ManifestError(
            f"hardware.cuda is {manifest.hardware.cuda}, but the locked torch is built for CUDA {built}",
            f'set `hardware.cuda: "{built}"`, or ask for another torch',
        )
    cuda = vast.cuda or built
    if _number(cuda) < _number(built):
        raise ManifestError(f"vast.cuda is {cuda}, less than the {built} of the locked torch", "leave `vast.cuda` out")
    required, kept = _down_to(models, "required"), _down_to(models, vast.tier)
    disk = sum(map(size_of, kept)) + image.unpacked + vast.headroom_gb * 10**9
    return Needs(
        gpu_mb=(vast.gpu_gb or manifest.hardware.vram_gb) * 1000,  # a "16 GB" card has 15 to 16 of 1024 MB
        cuda=cuda,
        disk_gb=math.ceil(disk / 10**9),
        inet_down_mbps=vast.inet_down_mbps,
        ports=len(vast.ports) + (vast.launch != "args"),
        required=sum(map(size_of, required)),
        kept=sum(map(size_of, kept)),
        image=image.unpacked,
        unsized=tuple(model.name for model in required if model.size is None),
    )


def size_of(model: Model) -> int:
    """Give a model's bytes; where the lock does not know them, more than such a model is likely to have."""
    return model.size if model.size is not None else _UNKNOWN[model.kind in _WHOLE]


def _down_to(models: Iterable[Model], tier: str) -> list[Model]:
    wanted = TIERS[: TIERS.index(tier) + 1]
    return [model for model in models if model.tier in wanted]


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
