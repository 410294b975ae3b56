"""Model families, their latents and their text encoders: comfy/supported_models.py as a table.

A manifest allows seven of them (gesso.models.identify.identity); users' graphs contain more.
"""

from __future__ import annotations

from dataclasses import dataclass

from gesso.models.identify.identity import CHANNELS, UNKNOWN

UNDECIDED = {"", "any", UNKNOWN}


@dataclass(frozen=True)
class Latents:
    """A kind of latents. Two kinds are incompatible even with the same number of channels."""

    space: str
    channels: int | None


NO_LATENTS = Latents("", None)
_SPACES: dict[str, int] = {
    "sd": 4, "sdxl": 4, "sd3": 16, "flux": 16, "flux2": 128, "wan": 16, "wan22": 48, "hunyuan-video": 16,
    "hunyuan-video15": 32, "hunyuan-image": 64, "hunyuan3d": 64, "cosmos": 16, "mochi": 12, "ltxv": 128, "ltxv25": 128,
    "cogvideox": 16, "seedvr2": 16, "triposplat": 16, "pixel": 3, "ace": 8, "ace15": 64, "stable-audio": 64,
    "stable-audio3": 256, "minimax-h3": 24, "minimax-music": 128, "cascade-c": 16, "cascade-b": 4,
}  # fmt: skip
_LATENTS_OF: dict[str, str] = {
    "sd15": "sd", "sd2": "sd", "sdxl": "sdxl", "sdxl-refiner": "sdxl", "sd3": "sd3", "flux": "flux", "flux2": "flux2",
    "svd": "sd", "pixart-alpha": "sd", "pixart-sigma": "sdxl", "auraflow": "sdxl", "hunyuan-dit": "sdxl",
    "chroma": "flux", "lumina2": "flux", "z-image": "flux", "hidream": "flux", "omnigen2": "flux", "boogu": "flux",
    "longcat": "flux", "ovis": "flux", "newbie": "flux", "kandinsky5-image": "flux",
    "ernie": "flux2", "ideogram4": "flux2", "lens": "flux2", "mage-flow": "flux2",
    "wan": "wan", "wan22": "wan22", "qwen-image": "wan", "krea2": "wan", "anima": "wan", "joyimage": "wan",
    "cosmos-predict2": "wan", "hunyuan-video": "hunyuan-video", "hunyuan-video15": "hunyuan-video15",
    "kandinsky5": "hunyuan-video", "hunyuan-image": "hunyuan-image", "hunyuan3d": "hunyuan3d", "cosmos": "cosmos",
    "mochi": "mochi", "ltxv": "ltxv", "ltxv25": "ltxv25", "cogvideox": "cogvideox", "seedvr2": "seedvr2",
    "triposplat": "triposplat", "chroma-radiance": "pixel", "pixeldit": "pixel", "hidream-o1": "pixel", "pid": "pixel",
    "ace": "ace", "ace15": "ace15", "stable-audio": "stable-audio", "stable-audio3": "stable-audio3",
    "minimax-h3": "minimax-h3", "minimax-music": "minimax-music",
}  # fmt: skip
# Families that use the text encoders of another family.
_TEXT_FAMILIES: dict[str, str] = {
    "chroma-radiance": "chroma", "wan22": "wan", "z-image": "lumina2", "ltxv25": "ltxv", "pid": "pixeldit",
}  # fmt: skip
# Text encoders that ComfyUI recognises from the file, whatever the loader's type (comfy/sd.py,
# load_text_encoder_state_dicts).
TEXT_FAMILIES_BY_FILE = {"anima", "ernie", "hidream-o1", "lens", "ovis", "stable-audio", "stable-audio3"}
# What a loader of one text encoder outputs, by its `type`; then a loader of two.
_SINGLE_LOADER = {
    "boogu": "boogu", "chroma": "chroma", "cogvideox": "cogvideox", "flux2": "flux2", "hidream": "hidream",
    "ideogram4": "ideogram4", "joyimage": "joyimage", "krea2": "krea2", "longcat_image": "longcat", "ltxv": "ltxv",
    "lumina2": "lumina2", "mage": "mage-flow", "mochi": "mochi", "omnigen2": "omnigen2", "pixeldit": "pixeldit",
    "qwen_image": "qwen-image", "sd3": "sd3", "wan": "wan",
}  # fmt: skip
_DUAL_LOADER = {
    "ace": "ace15", "flux": "flux", "hidream": "hidream", "hunyuan_image": "hunyuan-image",
    "hunyuan_video": "hunyuan-video", "hunyuan_video_15": "hunyuan-video15", "kandinsky5": "kandinsky5",
    "kandinsky5_image": "kandinsky5-image", "newbie": "newbie", "sd3": "sd3", "sdxl": "sdxl",
}  # fmt: skip


def loader_text_family(class_type: str, type_: str) -> str:
    """Return the family of a loader's text encoders by its class and `type`; "" where the files decide."""
    match class_type.removesuffix("GGUF"):
        case "CLIPLoader":
            return _SINGLE_LOADER.get(type_, "")
        case "DualCLIPLoader":
            return _DUAL_LOADER.get(type_, "")
        case "TripleCLIPLoader":
            return "sd3"
        case "QuadrupleCLIPLoader":
            return "hidream"
    return ""


def latents_of(family: str) -> Latents:
    """Return the latents of a family; no channels if they are unknown."""
    space = _LATENTS_OF.get(family, "")
    return Latents(space, _SPACES.get(space, CHANNELS.get(family)))


def latents_by_name(name: str) -> Latents:
    """Return a kind of latents by its name."""
    return Latents(name, _SPACES[name])


def text_family(family: str) -> str:
    """Return the family whose text encoders a family uses; "" if unknown."""
    return "" if family in UNDECIDED else _TEXT_FAMILIES.get(family, family)
