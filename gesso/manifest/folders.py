"""The folders in which ComfyUI 0.33 and the five node packs look for each kind of model; others are never listed.

Separate from the schema, because the boot needs them without pydantic.
"""

from __future__ import annotations

FOLDERS: dict[str, tuple[str, ...]] = {
    "checkpoint": ("checkpoints",),
    "clip_vision": ("clip_vision",),
    "controlnet": ("controlnet", "model_patches"),
    "diffusion_model": ("diffusion_models", "unet"),
    "inpaint": ("inpaint",),
    "ipadapter": ("ipadapter",),
    "lora": ("loras",),
    "style_model": ("style_models",),
    "text_encoder": ("text_encoders", "clip"),
    "upscale_model": ("upscale_models",),
    "vae": ("vae",),
}
