"""Families of the model files in ComfyUI's official templates, as a manifest declares them for a project's files.

Patterns over `folder/name`; the first match counts. Taken from the model cards and ComfyUI's supported_models.
"""

from __future__ import annotations

import re

from gesso.workflow.dataflow import ModelInfo

_PATTERNS: tuple[tuple[str, str], ...] = (
    # VAEs
    (r"vae/(ae|.*_ae)\.", "flux"),
    (r"vae/(flux2-vae|full_encoder_small_decoder)", "flux2"),
    (r"vae/mage_flow_vae", "mage-flow"),
    (r"vae/(wan_2\.1|wan2_1|wan_alpha_2\.1|qwen_image)_", "wan"),
    (r"vae/wan2\.2_vae", "wan22"),
    (r"vae/hunyuan_video_vae", "hunyuan-video"),
    (r"vae/hunyuanvideo15", "hunyuan-video15"),
    (r"vae/vae-ft-mse", "sd15"),
    (r"vae/cogvideox", "cogvideox"),
    (r"vae/seedvr2", "seedvr2"),
    (r"vae/ace_1\.5", "ace15"),
    (r"vae/ltx-2\.5-video", "ltxv25"),
    (r"vae/ltx-2\.5-audio|vae/minimax_h3_audio", ""),
    (r"vae/minimax_h3_video", "minimax-h3"),
    (r"vae/minimax_music3", "minimax-music"),
    (r"vae/triposplat", "triposplat"),
    (r"vae/pixel_space", "pixeldit"),
    # text encoders: only those that a single family uses
    (r"text_encoders/mistral_3_small_flux2", "flux2"),
    (r"text_encoders/gpt_oss_20b", "lens"),
    (r"text_encoders/ministral-3-3b", "ernie"),
    (r"text_encoders/ovis", "ovis"),
    (r"text_encoders/umt5", "wan"),
    (r"text_encoders/qwen3vl_32b_minimax", "minimax-h3"),
    (r"text_encoders/minimax_music3", "minimax-music"),
    (r"text_encoders/qwen_3_06b_base", "anima"),
    (r"text_encoders/ernie-image-prompt-enhancer", "ernie"),
    (r"text_encoders/gemma4_e4b", "hidream-o1"),
    (r"text_encoders/t5-base", "stable-audio"),
    (r"text_encoders/t5gemma", "stable-audio3"),
    (r"text_encoders/", ""),
    # models and what is for them
    (r"removal_timestep", "flux"),
    (r"qwen|firered|gummycandy|illustration-1\.0", "qwen-image"),
    (r"flux-?_?2|klein|Flux2", "flux2"),
    (r"pid_flux", "pid"),
    (r"flux|uso-", "flux"),
    (r"chroma-radiance|chroma1_radiance", "chroma-radiance"),
    (r"chroma", "chroma"),
    (r"z_image|z-image", "z-image"),
    (r"netayume|lumina", "lumina2"),
    (r"newbie", "newbie"),
    (r"omnigen2", "omnigen2"),
    (r"boogu", "boogu"),
    (r"hidream_o1", "hidream-o1"),
    (r"hidream", "hidream"),
    (r"longcat", "longcat"),
    (r"ovis", "ovis"),
    (r"kandinsky5lite_t2i", "kandinsky5-image"),
    (r"kandinsky5", "kandinsky5"),
    (r"krea2", "krea2"),
    (r"joyai", "joyimage"),
    (r"ernie", "ernie"),
    (r"ideogram4", "ideogram4"),
    (r"lens", "lens"),
    (r"mage_flow", "mage-flow"),
    (r"pixeldit", "pixeldit"),
    (r"/anima", "anima"),
    (r"sd3", "sd3"),
    (r"sd_xl_refiner", "sdxl-refiner"),
    (r"sd_xl|sdxl", "sdxl"),
    (r"lotus", "sd2"),
    (r"svd", "svd"),
    (r"wan2\.2_(ti2v|fun_control|fun_inpaint)_5B", "wan22"),
    (r"wan|humo|chrono|causal_forcing|lightx2v|bernini", "wan"),
    (r"hunyuan_video", "hunyuan-video"),
    (r"hunyuanvideo1|capybara", "hunyuan-video15"),
    (r"hunyuan3d|hunyuan_3d", "hunyuan3d"),
    (r"ltx-2\.5", "ltxv25"),
    (r"ltx", "ltxv"),
    (r"void", "cogvideox"),
    (r"seedvr2", "seedvr2"),
    (r"acestep_v1\.5|ace_step_1\.5", "ace15"),
    (r"ace_step", "ace"),
    (r"stable_audio_3", "stable-audio3"),
    (r"stable-audio", "stable-audio"),
    (r"minimax_h3", "minimax-h3"),
    (r"minimax_music", "minimax-music"),
    (r"triposplat", "triposplat"),
    (r"sam3", "sam3"),
    (r"sdpose", "sdxl"),
    (r"rt_detr", "rt-detr"),
)


def resolve(folder: str, name: str) -> ModelInfo | None:
    """Return the family of a template's file; every file counts as present."""
    path = f"{folder}/{name}"
    family = next((family for pattern, family in _PATTERNS if re.search(pattern, path, re.IGNORECASE)), "")
    return ModelInfo(family)
