"""What is known about the value on an edge, and whether two values are compatible."""

from __future__ import annotations

from dataclasses import dataclass

from gesso.workflow.families import NO_LATENTS, UNDECIDED, Latents, text_family

MODEL, CLIP, CONDITIONING, VAE, LATENT, ADD_ON = "M", "T", "C", "V", "L", "A"
_LABELS = {MODEL: "a model", CLIP: "text encoders", CONDITIONING: "a prompt", VAE: "a VAE", LATENT: "latents",
          ADD_ON: "an add-on"}  # fmt: skip
_READS_TEXT, _IS_TEXT = {MODEL, ADD_ON}, {CLIP, CONDITIONING}


@dataclass(frozen=True)
class Fact:
    """The kind, family and latents of one edge. `origin` describes where it comes from, for messages.

    The family of text encoders and prompts is that of the models that use them; `latents` of a prompt are those
    embedded in it (an inpaint mask, a reference). `empty` are zeros, which ComfyUI expands to a model's channels.
    """

    kind: str
    family: str = ""
    latents: Latents = NO_LATENTS
    origin: str = ""
    empty: bool = False

    @property
    def known(self) -> bool:
        """Whether the properties that matter for this kind are known."""
        if self.kind in {VAE, LATENT}:
            return self.latents.channels is not None
        return self.family not in UNDECIDED

    def __str__(self) -> str:
        named = [] if self.family in UNDECIDED else [f"for {self.family}" if self.kind in _IS_TEXT else self.family]
        if self.latents.channels is not None:
            space = self.latents.space if self.latents.space not in {"", self.family} else ""
            empty = "empty, " if self.empty else ""
            latents = " latents" if self.kind == CONDITIONING else ""
            named.append(f"{empty}{f'{space}{latents}, ' if space else ''}{self.latents.channels} channels")
        return f"{_LABELS[self.kind]} ({', '.join(named) or 'unknown'}) from {self.origin}"


def clash(one: Fact, other: Fact) -> str | None:
    """Return the finding code if two inputs of one node are incompatible, else None.

    Unknown properties never clash.
    """
    kinds = {one.kind, other.kind}
    if _families_clash(one, other):
        return "text-family" if kinds & _IS_TEXT and ADD_ON not in kinds else "model-family"
    if not _latents_clash(one, other):
        return None
    if kinds == {LATENT, MODEL}:
        return "latent-node" if one.empty or other.empty else "latent-model"
    return "latent-vae" if kinds == {LATENT, VAE} else "latent-mix"


def _families_clash(one: Fact, other: Fact) -> bool:
    if one.family in UNDECIDED or other.family in UNDECIDED or VAE in {one.kind, other.kind}:
        return False
    if LATENT in {one.kind, other.kind}:
        return False
    if one.kind in _IS_TEXT and other.kind in _IS_TEXT:
        return one.family != other.family
    if one.kind in _READS_TEXT and other.kind in _READS_TEXT:
        return one.family != other.family
    reader, text = (one, other) if one.kind in _READS_TEXT else (other, one)
    return text_family(reader.family) != text.family


def _latents_clash(one: Fact, other: Fact) -> bool:
    first, second = one.latents, other.latents
    if first.channels is None or second.channels is None:
        return False
    if first.channels != second.channels:
        return True
    return bool(first.space and second.space and first.space != second.space)
