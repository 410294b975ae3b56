"""Rules for video and audio classes: most output latents are zeros; the VAE's latents go into the prompt."""

from __future__ import annotations

_WITH_VAE = "positive:C negative:C vae:V -> C=positive+vae C=negative+vae L16"

VIDEO_RULES: dict[str, str] = {
    **dict.fromkeys(
        [
            "BerniniConditioning", "VOIDInpaintConditioning", "WanCameraImageToVideo", "WanDancerVideo",
            "WanFirstLastFrameToVideo", "WanFunControlToVideo", "WanFunInpaintToVideo", "WanHuMoImageToVideo",
            "WanImageToVideo", "WanMoveTrackToVideo", "WanSoundImageToVideo", "WanTrackToVideo",
        ],
        _WITH_VAE,
    ),
    "WanInfiniteTalkToVideo": "model:M model_patch:A positive:C negative:C vae:V -> "
    "M=model C=positive+vae C=negative+vae L16 -",
    "Wan22FunControlToVideo": "positive:C negative:C vae:V -> C=positive+vae C=negative+vae L=vae",
    "WanAnimate2ToVideo": "positive:C negative:C vae:V positive_pose?:C -> C=positive+vae C=negative+vae L16 - - -",
    "WanAnimateToVideo": "positive:C negative:C vae:V -> C=positive+vae C=negative+vae L16 - - -",
    "WanPhantomSubjectToVideo": "positive:C negative:C vae:V -> C=positive+vae C=negative+vae C=negative+vae L16",
    "WanSCAILToVideo": "positive:C negative:C vae:V -> C=positive+vae C=negative+vae L16 -",
    "WanSoundImageToVideoExtend": "positive:C negative:C vae:V video_latent:L -> C=positive+vae C=negative+vae L16",
    "WanVaceToVideo": "positive:C negative:C vae:V -> C=positive+vae C=negative+vae L16 -",
    "Wan22ImageToVideoLatent": "vae:V -> L=vae",
    "CosmosImageToVideoLatent": "vae:V -> L=vae",
    "CosmosPredict2ImageToVideoLatent": "vae:V -> L=vae",
    "HunyuanImageToVideo": "positive:C vae:V -> C=positive+vae L16",
    "HunyuanRefinerLatent": "positive:C negative:C !latent:L -> C=positive C=negative L32",
    "HunyuanVideo15ImageToVideo": "positive:C negative:C vae:V -> C=positive+vae C=negative+vae L32",
    "HunyuanVideo15SuperResolution": "positive:C negative:C vae?:V latent:L -> C=positive C=negative L=latent",
    "Kandinsky5ImageToVideo": "positive:C negative:C vae:V -> C=positive+vae C=negative+vae L16 L=vae",
    "LTXVAddGuide": "positive:C negative:C vae:V latent:L -> C=positive C=negative L=latent",
    "LTXVCropGuides": "positive:C negative:C latent:L -> C=positive C=negative L=latent",
    "LTXVImgToVideo": "positive:C negative:C vae:V -> C=positive C=negative L=vae",
    "LTXVImgToVideoInplace": "vae:V latent:L -> L=vae",
    "SV3D_Conditioning": "vae:V -> C:svd C:svd L4",
    "SVD_img2vid_Conditioning": "vae:V -> C:svd C:svd L4",
    "StableZero123_Conditioning": "!vae:V -> ? ? L4",
    "StableZero123_Conditioning_Batched": "!vae:V -> ? ? L4",
    "TripoSplatConditioning": "!vae:V -> C:triposplat C:triposplat L16",
}  # fmt: skip
