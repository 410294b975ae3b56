"""Identify kind, family and latent channels of a model by tensor names and shapes, as ComfyUI itself does.

What no rule decides is "unknown", never a guess; and the unknown contradicts a manifest only where it is known what
the file can't be.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from gesso.models.identify import adapters, components, diffusion_models, loras
from gesso.models.identify.identity import CHANNELS, UNKNOWN, Identity
from gesso.models.identify.tensors import short

if TYPE_CHECKING:
    from gesso.models.identify.tensors import Header

__all__ = ["CHANNELS", "UNKNOWN", "Identity", "identify", "mismatch"]

# What may stand where: UNETLoader takes the diffusion model out of a whole checkpoint (sd.py, load_diffusion_model).
_FITS = {kind: {kind} for kind in ("checkpoint", "vae", "text_encoder", "lora", "controlnet", "ipadapter")}
_FITS |= {kind: {kind} for kind in ("clip_vision", "upscale_model")} | {
    "diffusion_model": {"diffusion_model", "checkpoint"},
}
_PLAIN = re.compile(r"[ -~]{1,120}")  # a LoRA's evidence is the file's own text
_WITH_LATENTS = {"checkpoint", "diffusion_model", "vae"}


def identify(header: Header) -> Identity:
    """Identify a file by its header alone."""
    tensors = header.tensors
    found = (
        diffusion_models.nunchaku(header.metadata)
        or adapters.ipadapter(tensors)
        or loras.lora(tensors)
        or adapters.controlnet(tensors)
        or diffusion_models.diffusion_model(tensors)
        or diffusion_models.diffusers_unet(tensors)
        or diffusion_models.diffusers_dit(tensors)
        or components.vae(tensors, header)
        or components.text_encoder(tensors)
        or components.clip_vision(tensors)
        or components.upscaler(tensors)
    )
    if found is None and header.format == "gguf":
        found = components.by_architecture(header)
    if found is None:
        return Identity(UNKNOWN, UNKNOWN, None, "no tensor that a rule knows")
    return found if _PLAIN.fullmatch(found.evidence) else replace(found, evidence=short(found.evidence, 120))


def mismatch(identity: Identity, kind: str, family: str) -> str | None:
    """Return how a file contradicts the manifest's `kind` and `family`, naming both sides; None if it does not.

    "any" and "unknown" never contradict, nor do kinds that no rule knows (inpaint, style_model).
    """
    fits = _FITS.get(kind)
    if fits is None:
        return None
    if identity.kind != UNKNOWN and identity.kind not in fits:
        return f"the manifest says {_spoken(kind)}, the file is {_spoken(identity.kind)} ({identity.evidence})"
    return _other_family(identity, kind, family) if family in CHANNELS else None


def _other_family(identity: Identity, kind: str, family: str) -> str | None:
    wanted, found = CHANNELS[family], identity.latent_channels
    if kind in _WITH_LATENTS and found is not None and found != wanted:
        return f"{_spoken(kind)} for {family} has {wanted} latent channels, the file has {found} ({identity.evidence})"
    if identity.family not in {UNKNOWN, family}:
        return f"the manifest says {family}, the file is {identity.family} ({identity.evidence})"
    if family in identity.never:
        return f"the manifest says {family}, which the file does not fit ({identity.evidence})"
    return None


def _spoken(kind: str) -> str:
    words = {
        "vae": "VAE",
        "lora": "LoRA",
        "ipadapter": "IP-Adapter",
        "controlnet": "ControlNet",
        "inpaint": "inpainting model",
    }
    spoken = words.get(kind, kind.replace("_", " "))
    return f"{'an' if spoken[0] in 'aeiouI' else 'a'} {spoken}"
