"""What is known of the thing on an edge, and whether two such things belong together."""

from __future__ import annotations

from dataclasses import dataclass

from gesso.workflow.families import NO_LATENTS, UNDECIDED, Latents, text_of

MODEL, CLIP, CONDITIONING, VAE, LATENT, ADD_ON = "M", "T", "C", "V", "L", "A"
_WORDS = {MODEL: "a model", CLIP: "text encoders", CONDITIONING: "a prompt", VAE: "a VAE", LATENT: "latents",
          ADD_ON: "an add-on"}  # fmt: skip
_READS_TEXT, _IS_TEXT = {MODEL, ADD_ON}, {CLIP, CONDITIONING}


@dataclass(frozen=True)
class Fact:
    """One edge: the kind of thing, its family, its latents. `origin` says where it comes from, for people.

    The family of text encoders and prompts is the one whose models read them; `latents` of a prompt are those that
    travel in it (an inpaint mask, a reference). `empty` are zeros, which ComfyUI widens to a model's channels.
    """

    kind: str
    family: str = ""
    latents: Latents = NO_LATENTS
    origin: str = ""
    empty: bool = False

    @property
    def known(self) -> bool:
        """Whether what matters of it could be told."""
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
        return f"{_WORDS[self.kind]} ({', '.join(named) or 'unknown'}) from {self.origin}"


def clash(one: Fact, other: Fact) -> str | None:
    """Give the code of what is wrong where two things meet in one node; None where they may.

    What is not known never clashes.
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
    return text_of(reader.family) != text.family


def _latents_clash(one: Fact, other: Fact) -> bool:
    first, second = one.latents, other.latents
    if first.channels is None or second.channels is None:
        return False
    if first.channels != second.channels:
        return True
    return bool(first.space and second.space and first.space != second.space)
