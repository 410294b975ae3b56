"""Recognise architectures that ComfyUI runs and gesso has no family for, so that none is mistaken for another.

Each is known by tensors that nothing else has, as in ComfyUI's model_detection.py and sd.py (VAE), whose order this is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gesso.models.identify.identity import Tensors

_MAGE_TEXT = 2560  # Mage-Flow has Qwen-Image's tensors, for another text encoder
# family -> tensors that are all there, after the checkpoint's prefix
TRUNKS: dict[str, tuple[tuple[str, ...], ...]] = {
    "minimax-music": (("cond_layer_logits", "latent_conditioners.0.weight"),),
    "stable-cascade": (("clf.1.weight", "clip_txt_mapper.weight"), ("clf.1.weight", "clip_mapper.weight")),
    "stable-audio": (("transformer.rotary_pos_emb.inv_freq", "to_timestep_embed.0.weight"),),
    "auraflow": (
        ("double_layers.0.attn.w1q.weight", "cond_seq_linear.weight"),
        ("joint_transformer_blocks.0.attn.add_k_proj.weight", "context_embedder.weight"),
    ),
    "hunyuan-dit": (("mlp_t5.0.weight", "x_embedder.proj.weight"),),
    "hunyuan-video": (("txt_in.individual_token_refiner.blocks.0.norm1.weight", "final_layer.linear.weight"),),
    "mochi": (("t5_yproj.weight", "x_embedder.proj.weight"),),
    "minimax-h3": (("video_patch_proj.weight", "audio_patch_proj.weight"),),
    "pixart": (
        ("t_block.1.weight", "y_embedder.y_proj.fc1.weight"),
        ("adaln_single.emb.timestep_embedder.linear_1.bias", "pos_embed.proj.bias"),
    ),
    "ltxv": (("adaln_single.emb.timestep_embedder.linear_1.bias", "transformer_blocks.0.attn2.to_k.weight"),),
    "ace-step": (
        ("genre_embedder.weight", "lyric_embs.weight"),
        ("encoder.lyric_encoder.layers.0.input_layernorm.weight", "decoder.layers.0.self_attn_norm.weight"),
    ),
    "cosmos": (
        ("blocks.block0.blocks.0.block.attn.to_q.0.weight", "x_embedder.proj.1.weight"),
        ("blocks.0.mlp.layer1.weight", "x_embedder.proj.1.weight"),
    ),
    "pid": (("lq_proj.latent_proj.0.weight",),),
    "pixeldit": (("core.pixel_embedder.proj.weight",),),
    "lumina2": (
        ("cap_embedder.1.weight", "noise_refiner.0.attention.k_norm.weight"),
        ("cap_embedder.1.weight", "noise_refiner.0.attention.norm_k.weight"),
    ),
    "cogvideox": (("blocks.0.norm1.linear.weight", "patch_embed.text_proj.weight"),),
    "seedvr2": (
        ("vid_in.proj.weight", "blocks.31.mlp.all.proj_in_gate.weight"),
        ("vid_in.proj.weight", "txt_in.weight"),
    ),
    "wan": (("head.modulation", "head.head.weight", "patch_embedding.weight"),),
    "hunyuan-3d": (
        ("latent_in.weight", "cond_in.weight"),
        ("t_embedder.mlp.2.weight", "blocks.0.attn1.k_norm.weight"),
    ),
    "triposplat": (("cam_out_layer.weight", "repo_layers.0.final_map.weight"),),
    "hidream": (
        ("caption_projection.0.linear.weight", "double_stream_blocks.0.block.attn1.to_q.weight"),
        ("t_embedder1.mlp.0.weight", "x_embedder.proj1.weight"),
    ),
    "boogu": (("double_stream_layers.0.img_instruct_attn.processor.img_to_q.weight", "x_embedder.weight"),),
    "omnigen2": (("time_caption_embed.timestep_embedder.linear_1.bias", "x_embedder.weight"),),
    "lens": (("transformer_blocks.0.attn.norm_added_q.weight", "transformer_blocks.0.img_mlp.w1.weight"),),
    "qwen-image": (("txt_norm.weight", "proj_out.weight", "img_in.weight"),),
    "ideogram4": (("embed_image_indicator.weight", "input_proj.weight"),),
    "krea2": (("txtfusion.projector.weight", "first.weight"),),
    "kandinsky5": (("visual_transformer_blocks.0.cross_attention.key_norm.weight",),),
    "ernie-image": (("layers.0.mlp.linear_fc2.weight", "layers.0.mlp.gate_proj.weight", "x_embedder.proj.weight"),),
    "joyimage": (("double_blocks.0.attn.img_attn_qkv.weight", "condition_embedder.time_embedder.linear_1.weight"),),
}
# family -> a tensor that only its VAE has
VAES: dict[str, tuple[str, ...]] = {
    "stable-cascade": ("vquantizer.codebook.weight", "encoder.backbone.1.0.block.0.1.num_batches_tracked"),
    "seedvr2": ("decoder.up_blocks.2.upsamplers.0.upscale_conv.weight",),
    "mage-flow": ("student.dconv_encoder.proj_out.weight",),
    "stable-audio": ("decoder.layers.1.layers.0.beta", "decoder.layers.3.transformers.0.pre_norm.alpha"),
    "mochi": ("decoder.blocks.2.blocks.3.stack.5.weight", "blocks.2.blocks.3.stack.5.weight"),
    "ltxv": ("decoder.up_blocks.0.res_blocks.0.conv1.conv.weight", "decoder.conv_in_x_t.weight"),
    "hunyuan-video": ("decoder.conv_in.conv.weight",),  # and CogVideoX
    "cosmos": ("decoder.unpatcher3d.wavelets", "decoder.conv_in.0.conv3d.weight"),
    "wan": ("decoder.middle.0.residual.0.gamma",),
    "hunyuan-3d": ("geo_decoder.cross_attn_decoder.ln_1.bias",),
    "a video model": ("decoder.22.bias",),  # tiny ones: TAEHV, TAEW
}


def diffusion_model_of(tensors: Tensors, prefix: str) -> tuple[str, str] | None:
    """Return the family of a diffusion model and the tensor that tells."""
    for family, ways in TRUNKS.items():
        for way in ways:
            if all(prefix + name in tensors for name in way):
                mage = family == "qwen-image" and tensors[prefix + way[0]].shape == (_MAGE_TEXT,)
                return "mage-flow" if mage else family, prefix + way[0]
    return None


def vae_of(tensors: Tensors, prefix: str) -> tuple[str, str] | None:
    """Return the family of a VAE and the tensor that tells."""
    for family, names in VAES.items():
        for name in names:
            if prefix + name in tensors:
                return family, prefix + name
    return None
