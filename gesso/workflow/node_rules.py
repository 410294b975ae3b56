"""What each node class does with families and latents: a table that rules.py parses. Tested against the recordings.

inputs -> outputs, one word each
name:K    an input: M model (or guider), T text encoders, C conditioning, V VAE, L latents, A add-on to a model,
          * anything. All inputs of a node must be compatible, except those with `!`; those with `?` are optional
name:@f   the name of a file in the models' folder f
K         an output made from those files          K=a    the same as the input a (L=model: latents of that model)
C=a+b     the prompt a with latents of b's kind     *=a|b  one of them
L16       zeros with 16 channels                    -      none of the above             ? cannot be determined
C:svd     for models of that one family
"""

from __future__ import annotations

from gesso.workflow.node_rules_video import VIDEO_RULES

_PATCH = "model:M -> M=model"
_MERGE = "model1:M model2:M -> M=model1"
_CONDITION = "conditioning:C -> C=conditioning"
_TEXT = "clip:T -> C=clip"
_LATENT = "samples:L -> L=samples"
_TWO_LATENTS = "samples1:L samples2:L -> L=samples1"
_WITH_VAE = "positive:C negative:C vae:V -> C=positive+vae C=negative+vae L=vae"
_IP_ADAPTER = "model:M ipadapter:A -> M=model"
_IP_EMBEDS = "model:M ipadapter:A -> M=model -"
_READS_MODEL = "model:M -> -"
_DECODE = "samples:L vae:V -> -"
_ENCODE = "vae:V -> L=vae"


def _same(rule: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, str] = {
    **VIDEO_RULES,
    # loaders
    "CheckpointLoaderSimple": "ckpt_name:@checkpoints -> M T V",
    "CheckpointLoader": "ckpt_name:@checkpoints -> M T V",
    "unCLIPCheckpointLoader": "ckpt_name:@checkpoints -> M T V -",
    "ImageOnlyCheckpointLoader": "ckpt_name:@checkpoints -> M - V",
    "UNETLoader": "unet_name:@diffusion_models -> M",
    "UnetLoaderGGUF": "unet_name:@diffusion_models -> M",
    "UnetLoaderGGUFAdvanced": "unet_name:@diffusion_models -> M",
    "VAELoader": "vae_name:@vae -> V",
    "CLIPLoader": "clip_name:@text_encoders -> T",
    "CLIPLoaderGGUF": "clip_name:@text_encoders -> T",
    "DualCLIPLoader": "clip_name1:@text_encoders clip_name2:@text_encoders -> T",
    "DualCLIPLoaderGGUF": "clip_name1:@text_encoders clip_name2:@text_encoders -> T",
    "TripleCLIPLoader": "clip_name1:@text_encoders clip_name2:@text_encoders clip_name3:@text_encoders -> T",
    "TripleCLIPLoaderGGUF": "clip_name1:@text_encoders clip_name2:@text_encoders clip_name3:@text_encoders -> T",
    "QuadrupleCLIPLoader": "clip_name1:@text_encoders clip_name2:@text_encoders clip_name3:@text_encoders "
    "clip_name4:@text_encoders -> T",
    "QuadrupleCLIPLoaderGGUF": "clip_name1:@text_encoders clip_name2:@text_encoders clip_name3:@text_encoders "
    "clip_name4:@text_encoders -> T",
    "LTXAVTextEncoderLoader": "text_encoder:@text_encoders ckpt_name:@checkpoints -> T",
    "LTXVAudioVAELoader": "ckpt_name:@checkpoints -> ?",
    "LoraLoader": "model:M clip:T lora_name:@loras -> M=model T=clip",
    "LoraLoaderBypass": "model:M clip:T lora_name:@loras -> M=model T=clip",
    "LoraLoaderModelOnly": "model:M lora_name:@loras -> M=model",
    "LoraLoaderBypassModelOnly": "model:M lora_name:@loras -> M=model",
    "LoraModelLoader": _PATCH,
    "ControlNetLoader": "control_net_name:@controlnet -> A",
    "DiffControlNetLoader": "model:M control_net_name:@controlnet -> A",
    "SetUnionControlNetType": "control_net:A -> A=control_net",
    "ModelPatchLoader": "name:@model_patches -> A",
    "StyleModelLoader": "style_model_name:@style_models -> A",
    "IPAdapterModelLoader": "ipadapter_file:@ipadapter -> A",
    "INPAINT_LoadFooocusInpaint": "head:@inpaint patch:@inpaint -> A",
    "INPAINT_LoadInpaintModel": "model_name:@inpaint -> -",
    "UpscaleModelLoader": "model_name:@upscale_models -> -",
    "CLIPVisionLoader": "clip_name:@clip_vision -> -",
    "ETN_KritaStyle": " -> ? ? ? - - - - - -",
    "ETN_KritaStyleAndPrompt": " -> ? ? ? - - - - - -",
    "DiffusersLoader": " -> ? ? ?",
    "LoadLatent": " -> ?",
    "LoadTrainingDataset": " -> ? ?",
    # models
    **_same(
        _PATCH,
        "APG CFGNorm CFGZeroStar ChromaRadianceOptions ContextWindowsManual DifferentialDiffusion EasyCache "
        "FluxKVCache FreSca FreeU FreeU_V2 HiDreamO1PatchSeamSmoothing HyperTile HypernetworkLoader "
        "LTXVContextWindows LTXVModalityGuidance LTXVSpatioTemporalGuidance LatentApplyOperationCFG LazyCache Mahiro "
        "MiniMaxH3SigmaShift ModelAttentionBackend ModelComputeDtype ModelNoiseScale ModelSamplingAuraFlow "
        "ModelSamplingContinuousEDM ModelSamplingContinuousV ModelSamplingDiscrete ModelSamplingFlux "
        "ModelSamplingSD3 ModelSamplingStableCascade MultiGPU_WorkUnits NAGuidance PatchModelAddDownscale "
        "PerturbedAttentionGuidance RenormCFG RescaleCFG ScaleROPE SelectModelDevice SelfAttentionGuidance "
        "SkipLayerGuidanceDiT SkipLayerGuidanceDiTSimple SkipLayerGuidanceSD3 TCFG TemporalScoreRescaling "
        "TomePatchModel TorchCompileModel UNetCrossAttentionMultiply UNetSelfAttentionMultiply "
        "UNetTemporalAttentionMultiply VideoLinearCFGGuidance VideoTriangleCFGGuidance WanAnimate2Cache "
        "WanContextWindowsManual wanBlockSwap ETN_AttentionMask ETN_control_apply CFGOverride",
    ),
    "Epsilon Scaling": _PATCH,
    "ETN_control_load": "model:M -> M=model -",
    "ModelSamplingLTXV": "model:M latent?:L -> M=model",
    "PerpNeg": "model:M empty_conditioning:C -> M=model",
    "AnimaLLLiteApply": "model:M model_patch:A -> M=model",
    "USOStyleReference": "model:M model_patch:A -> M=model",
    "SUPIRApply": "model:M model_patch:A vae:V -> M=model",
    "ZImageFunControlnet": "model:M model_patch:A vae:V -> M=model",
    "QwenImageDiffsynthControlnet": "model:M model_patch:A vae:V -> M=model",
    "WanUni3CControlnetApply": "model:M model_patch:A !vae:V -> M=model",
    "INPAINT_ApplyFooocusInpaint": "model:M patch:A latent:L -> M=model",
    **_same(
        _IP_ADAPTER,
        "IPAdapter IPAdapterAdvanced IPAdapterBatch IPAdapterEmbeds IPAdapterEmbedsBatch IPAdapterMS "
        "IPAdapterPreciseComposition IPAdapterPreciseCompositionBatch IPAdapterPreciseStyleTransfer "
        "IPAdapterPreciseStyleTransferBatch IPAdapterStyleComposition IPAdapterStyleCompositionBatch "
        "IPAdapterClipVisionEnhancer IPAdapterClipVisionEnhancerBatch",
    ),
    **_same(_IP_EMBEDS, "IPAAdapterFaceIDBatch IPAdapterFaceID IPAdapterFaceIDKolors"),
    **_same("model:M ipadapter:A -> M=model - -", "IPAdapterTiled IPAdapterTiledBatch"),
    "IPAdapterFromParams": _IP_ADAPTER,
    "IPAdapterEncoder": "ipadapter:A -> - -",
    "IPAdapterUnifiedLoader": "model:M ipadapter?:A -> M=model A=model",
    "IPAdapterUnifiedLoaderCommunity": "model:M ipadapter?:A -> M=model A=model",
    "IPAdapterUnifiedLoaderFaceID": "model:M ipadapter?:A -> M=model A=model",
    "IPAdapterRegionalConditioning": "positive?:C negative?:C -> - C=positive C=negative",
    **_same(
        _MERGE,
        "ModelMergeAdd ModelMergeAuraflow ModelMergeBlocks ModelMergeCosmos14B ModelMergeCosmos7B "
        "ModelMergeCosmosPredict2_14B ModelMergeCosmosPredict2_2B ModelMergeFlux1 ModelMergeKrea2 ModelMergeLTXV "
        "ModelMergeMochiPreview ModelMergeQwenImage ModelMergeSD1 ModelMergeSD2 ModelMergeSD35_Large "
        "ModelMergeSD3_2B ModelMergeSDXL ModelMergeSimple ModelMergeSubtract ModelMergeWAN2_1",
    ),
    **_same(
        _READS_MODEL,
        "BasicScheduler BetaSamplingScheduler SDTurboScheduler SamplerSASolver SamplingPercentToSigma RTDETR_detect",
    ),
    "ARVideoI2V": "model:M vae:V -> M=model L=vae",
    "ModelSave": "model:M -> ",
    "GetICLoRAParameters": "iclora_model:M -> -",
    "CheckpointSave": "model:M clip:T vae:V -> ",
    "ImageOnlyCheckpointSave": "model:M vae:V -> ",
    "LoraSave": "model_diff?:M text_encoder_diff?:T -> ",
    "TripoSplatSamplingPreview": "model:M !vae:V -> M=model",
    # guiders: they contain their model
    "BasicGuider": "model:M conditioning:C -> M=model",
    "CFGGuider": "model:M positive:C negative:C -> M=model",
    "DualCFGGuider": "model:M cond1:C cond2:C negative:C -> M=model",
    "DualModelGuider": "model:M positive:C model_negative?:M negative?:C -> M=model",
    "PerpNegGuider": "model:M positive:C negative:C empty_conditioning:C -> M=model",
    "LTXVDualCFGGuider": "model:M positive:C negative:C -> M=model",
    # text
    **_same(
        _TEXT,
        "CLIPTextEncode CLIPTextEncodeFlux CLIPTextEncodeHiDream CLIPTextEncodeHunyuanDiT CLIPTextEncodeKandinsky5 "
        "CLIPTextEncodeLumina2 CLIPTextEncodePixArtAlpha CLIPTextEncodeSD3 CLIPTextEncodeSDXL "
        "CLIPTextEncodeSDXLRefiner PhotoMakerEncode TextEncodeAceStepAudio TextEncodeAceStepAudio1.5 "
        "TextEncodeHunyuanVideo_ImageToVideo",
    ),
    "MiniMaxMusic3TextEncode": "clip:T -> C=clip -",
    "CLIPTextEncodeControlnet": "clip:T conditioning:C -> C=conditioning",
    "TextEncodeQwenImageEdit": "clip:T vae?:V -> C=clip+vae",
    "TextEncodeQwenImageEditPlus": "clip:T vae?:V -> C=clip+vae",
    "TextEncodeZImageOmni": "clip:T vae?:V -> C=clip+vae",
    "TextEncodeJoyImageEdit": "clip:T vae?:V -> C=clip+vae",
    "TextEncodeBooguEdit": "clip:T vae:V -> C=clip+vae C=clip+vae",
    "TextEncodeMageFlowEdit": "clip:T vae?:V -> C=clip+vae C=clip+vae L128",
    "MiniMaxH3ImageToVideo": "clip:T vae:V -> C=clip+vae ?",
    "MiniMaxH3ReferenceToVideo": "clip:T vae:V !audio_vae:V -> C=clip+vae ?",
    "TextGenerate": "clip:T -> -",
    "TextGenerateLTX2Prompt": "clip:T -> -",
    **_same("clip:T -> T=clip", "CLIPAttentionMultiply CLIPSetLastLayer SelectCLIPDevice SetClipHooks "
            "T5TokenizerOptions"),
    **_same("clip1:T clip2:T -> T=clip1", "CLIPMergeAdd CLIPMergeSimple CLIPMergeSubtract"),
    "CLIPSave": "clip:T -> ",
    "GLIGENTextBoxApply": "conditioning_to:C clip:T -> C=conditioning_to",
    # conditionings
    **_same(
        _CONDITION,
        "ConditioningMultiply ConditioningSetArea ConditioningSetAreaPercentage ConditioningSetAreaPercentageVideo "
        "ConditioningSetAreaStrength ConditioningSetMask ConditioningSetTimestepRange ConditioningZeroOut "
        "FluxDisableGuidance FluxGuidance FluxKontextMultiReferenceLatentMethod unCLIPConditioning",
    ),
    "ConditioningAverage": "conditioning_to:C conditioning_from:C -> C=conditioning_to",
    "ConditioningCombine": "conditioning_1:C conditioning_2:C -> C=conditioning_1",
    "ConditioningConcat": "conditioning_to:C conditioning_from:C -> C=conditioning_to",
    "ConditioningSetDefaultCombine": "cond:C cond_DEFAULT:C -> C=cond",
    "ConditioningSetProperties": "cond_NEW:C -> C=cond_NEW",
    "ConditioningSetPropertiesAndCombine": "cond:C cond_NEW:C -> C=cond",
    "PairConditioningCombine": "positive_A:C negative_A:C positive_B:C negative_B:C -> C=positive_A C=negative_A",
    "PairConditioningSetDefaultCombine": "positive:C negative:C positive_DEFAULT:C negative_DEFAULT:C -> "
    "C=positive C=negative",
    "PairConditioningSetProperties": "positive_NEW:C negative_NEW:C -> C=positive_NEW C=negative_NEW",
    "PairConditioningSetPropertiesAndCombine": "positive:C negative:C positive_NEW:C negative_NEW:C -> "
    "C=positive C=negative",
    "ConditioningStableAudio": "positive:C negative:C -> C=positive C=negative",
    "ControlNetApply": "conditioning:C control_net:A -> C=conditioning",
    "ControlNetApplyAdvanced": "positive:C negative:C control_net:A vae?:V -> C=positive+vae C=negative+vae",
    "ControlNetApplySD3": "positive:C negative:C control_net:A vae:V -> C=positive+vae C=negative+vae",
    "ControlNetInpaintingAliMamaApply": "positive:C negative:C control_net:A vae:V -> C=positive+vae C=negative+vae",
    "ETN_ApplyReferenceImages": "conditioning:C style_model:A -> C=conditioning",
    "StyleModelApply": "conditioning:C style_model:A -> C=conditioning",
    "ReferenceLatent": "conditioning:C latent?:L -> C=conditioning+latent",
    "ReferenceTimbreAudio": "conditioning:C !latent?:L -> C=conditioning",
    "InpaintModelConditioning": _WITH_VAE,
    "InstructPixToPixConditioning": _WITH_VAE,
    "INPAINT_VAEEncodeInpaintConditioning": "positive:C negative:C vae:V -> C=positive+vae C=negative+vae L=vae L=vae",
    "SD_4XUpscale_Conditioning": "positive:C negative:C -> C=positive C=negative L4",
    "ETN_BackgroundRegion": "conditioning:C -> -",
    "ETN_DefineRegion": "conditioning:C -> -",
    "LotusConditioning": " -> C:sd2",
    "Hunyuan3Dv2Conditioning": " -> C:hunyuan3d C:hunyuan3d",
    "Hunyuan3Dv2ConditioningMultiView": " -> C:hunyuan3d C:hunyuan3d",
    "HiDreamO1ReferenceImages": "positive:C negative:C -> C=positive C=negative",
    "PiDConditioning": "positive:C !latent:L -> C=positive",
    "SeedVR2Conditioning": "model:M vae_conditioning:L -> C:seedvr2 C:seedvr2",
    "StableCascade_StageB_Conditioning": "conditioning:C !stage_c:L -> C=conditioning",
    "LTXVConditioning": "positive:C negative:C -> C=positive C=negative",
    "LTXVReferenceAudio": "model:M positive:C negative:C !audio_vae:V -> M=model C=positive C=negative",
    "SAM3_Detect": "model:M conditioning?:C -> - -",
    "SAM3_VideoTrack": "model:M conditioning?:C -> -",
    "LTXVDurationPredictor": "model:M positive:C duration_head:A -> - -",
    "SDPoseKeypointExtractor": "model:M vae:V -> -",
    # sampling
    "KSampler": "model:M positive:C negative:C latent_image:L -> L=model",
    "KSamplerAdvanced": "model:M positive:C negative:C latent_image:L -> L=model",
    "SamplerCustom": "model:M positive:C negative:C latent_image:L -> L=model L=model",
    "SamplerCustomAdvanced": "guider:M latent_image:L -> L=guider L=guider",
    "AddNoise": "model:M latent_image:L -> L=model",
    "TrainLoraNode": "model:M latents:L positive:C -> - - -",
    # VAEs
    **_same(_DECODE, "VAEDecode VAEDecodeTiled VAEDecodeAudio VAEDecodeAudioTiled VAEDecodeHunyuan3D "
            "VAEDecodeTripoSplat"),
    **_same(_ENCODE, "VAEEncode VAEEncodeForInpaint VAEEncodeTiled VAEEncodeAudio"),
    "SelectVAEDevice": "vae:V -> V=vae",
    "VAESave": "vae:V -> ",
    "MakeTrainingDataset": "vae:V clip:T -> L=vae C=clip",
    "SaveTrainingDataset": "latents:L conditioning:C -> ",
    "ResolutionBucket": "latents:L conditioning:C -> L=latents C=conditioning",
    "StableCascade_StageC_VAEEncode": "vae:V -> L=vae L4",
    "StableCascade_SuperResolutionControlnet": "vae:V -> - L16 L4",
    "LTXVAudioVAEDecode": "!samples:L !audio_vae:V -> -",
    "LTXVAudioVAEEncode": "!audio_vae:V -> ?",
    "LTXVEmptyLatentAudio": "!audio_vae:V -> ?",
    # latents
    "EmptyLatentImage": " -> L4",
    "EmptySD3LatentImage": " -> L16",
    "EmptyFlux2LatentImage": " -> L128",
    "EmptyHunyuanImageLatent": " -> L64",
    "EmptyQwenImageLayeredLatentImage": " -> L16",
    "EmptyChromaRadianceLatentImage": " -> L3",
    "EmptyHiDreamO1LatentImage": " -> L3",
    "EmptyHunyuanLatentVideo": " -> L16",
    "EmptyHunyuanVideo15Latent": " -> L32",
    "EmptyARVideoLatent": " -> L16",
    "EmptyCosmosLatentVideo": " -> L16",
    "EmptyMochiLatentVideo": " -> L12",
    "EmptyLTXVLatentVideo": " -> L128",
    "EmptyLatentHunyuan3Dv2": " -> L64",
    "EmptyLatentAudio": " -> L64",
    "EmptyAceStepLatentAudio": " -> L8",
    "EmptyAceStep1.5LatentAudio": " -> L64",
    "EmptyMiniMaxMusic3LatentAudio": " -> L128",
    "EmptyMiniMaxH3LatentAV": " -> ?",
    "StableCascade_EmptyLatentImage": " -> L16 L4",
    **_same(
        _LATENT,
        "LatentApplyOperation LatentBatchSeedBehavior LatentCrop LatentCut LatentCutToBatch LatentFlip "
        "LatentFromBatch LatentMultiply LatentRotate LatentUpscale LatentUpscaleBy RepeatLatentBatch SaveLatent "
        "SetLatentNoiseMask TrimVideoLatent HunyuanVideo15LatentUpscaleWithModel",
    ),
    **_same(_TWO_LATENTS, "LatentAdd LatentBatch LatentBlend LatentConcat LatentInterpolate LatentSubtract"),
    "LatentComposite": "samples_to:L samples_from:L -> L=samples_to",
    "LatentCompositeMasked": "destination:L source:L -> L=destination",
    "ReplaceVideoLatentFrames": "destination:L source?:L -> L=destination",
    "BatchLatentsNode": "latents.*:L -> L=latents.*",
    "RebatchLatents": "latents:L -> L=latents",
    "NormalizeVideoLatentStart": "latent:L -> L=latent",
    "ImageGenResolutionFromLatent": "latent:L -> - -",
    "SeedVR2TemporalChunk": "latent:L -> L=latent -",
    "SeedVR2TemporalMerge": "latents:L -> L=latents",
    "LTXVScheduler": "latent?:L -> -",
    "LTXVLatentUpsampler": "samples:L vae:V -> L=samples",
    "LTXVConcatAVLatent": "!video_latent:L !audio_latent:L -> L=video_latent",
    "LTXVSeparateAVLatent": "av_latent:L -> L=av_latent ?",
    "VOIDWarpedNoise": " -> ?",
    "VOIDWarpedNoiseSource": "warped_noise:L -> -",
    # any type
    "ComfySwitchNode": "on_false?:* on_true?:* -> *=on_false|on_true",
}  # fmt: skip
