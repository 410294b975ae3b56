"""Legal changes to a gold graph: none of them causes a finding, not even an unclear one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .graphs import GOLD, SUBGRAPH, Api, Editor, check

if TYPE_CHECKING:
    from collections.abc import Callable

# --- in API format


def tiled_decode(g: Api) -> None:
    old = g.inputs(g.decode)
    g.data[g.decode] = {"class_type": "VAEDecodeTiled", "inputs": {
        "samples": old["samples"], "vae": old["vae"], "tile_size": 512, "overlap": 64, "temporal_size": 64,
        "temporal_overlap": 8}}  # fmt: skip


def the_right_empty_latent(g: Api) -> None:
    class_type = "EmptySD3LatentImage" if g.flux else "EmptyLatentImage"
    g.inputs(g.sampler)["latent_image"] = [g.add(class_type, width=512, height=512, batch_size=1), 0]


def second_pass_at_a_larger_size(g: Api) -> None:
    larger = g.add("LatentUpscaleBy", samples=[g.sampler, 0], upscale_method="bilinear", scale_by=1.5)
    second = g.add("KSampler", **{**g.inputs(g.sampler), "latent_image": [larger, 0], "denoise": 0.4})
    g.inputs(g.decode)["samples"] = [second, 0]


def advanced_sampler(g: Api) -> None:
    old = {k: v for k, v in g.inputs(g.sampler).items() if k not in {"seed", "denoise"}}
    g.data[g.sampler] = {"class_type": "KSamplerAdvanced", "inputs": {
        **old, "add_noise": "enable", "noise_seed": 1, "start_at_step": 0, "end_at_step": 10000,
        "return_with_leftover_noise": "disable"}}  # fmt: skip


def custom_sampler_with_a_guider(g: Api) -> None:
    old = g.inputs(g.sampler)
    guider = g.add("CFGGuider", model=old["model"], positive=old["positive"], negative=old["negative"], cfg=3.0)
    sigmas = g.add("BasicScheduler", model=old["model"], scheduler="simple", steps=4, denoise=1.0)
    g.data[g.sampler] = {"class_type": "SamplerCustomAdvanced", "inputs": {
        "noise": [g.add("RandomNoise", noise_seed=1), 0], "guider": [guider, 0],
        "sampler": [g.add("KSamplerSelect", sampler_name="euler"), 0], "sigmas": [sigmas, 0],
        "latent_image": old["latent_image"]}}  # fmt: skip


def another_model_of_the_manifest(g: Api) -> None:
    inputs = g.inputs(g.model)
    if g.flux:
        inputs["unet_name"] = "flux1-dev-kontext_fp8_scaled.safetensors"
    else:
        inputs["ckpt_name"] = "RealVisXL_V5.0_fp16.safetensors"


def two_models_of_one_family(g: Api) -> None:
    if g.flux:
        second = g.add("UNETLoader", unet_name="flux1-dev-kontext_fp8_scaled.safetensors", weight_dtype="default")
    else:
        second = g.add("CheckpointLoaderSimple", ckpt_name="RealVisXL_V5.0_fp16.safetensors")
    g.insert_before(g.sampler, "model", "ModelMergeSimple", "model1", model2=[second, 0], ratio=0.5)


def patched_model(g: Api) -> None:
    g.insert_before(g.sampler, "model", "RescaleCFG", "model", multiplier=0.7)
    g.insert_before(g.sampler, "model", "SelfAttentionGuidance", "model", scale=0.5, blur_sigma=2.0)


def control_net_of_the_manifest(g: Api) -> None:
    name = "FLUX.1-dev-ControlNet-Union-Pro-2.0-fp8" if g.flux else "xinsir-controlnet-union-sdxl-1.0-promax"
    net = g.add("ControlNetLoader", control_net_name=f"{name}.safetensors")
    old = g.inputs(g.sampler)
    both = g.add("ControlNetApplyAdvanced", positive=old["positive"], negative=old["negative"], control_net=[net, 0],
                 image=[g.find("ETN_KritaCanvas"), 0], strength=0.6, start_percent=0.0, end_percent=1.0,
                 vae=[g.find("VAELoader"), 0])  # fmt: skip
    old.update(positive=[both, 0], negative=[both, 1])


def two_prompts_combined(g: Api) -> None:
    text = g.add("CLIPTextEncode", text="a", clip=g.clip())
    g.insert_before(g.sampler, "positive", "ConditioningCombine", "conditioning_1", conditioning_2=[text, 0])
    g.insert_before(g.sampler, "negative", "ConditioningSetTimestepRange", "conditioning", start=0.0, end=0.5)


def last_layer_of_clip(g: Api) -> None:
    layer = g.add("CLIPSetLastLayer", clip=g.clip(), stop_at_clip_layer=-2)
    for node in list(g.data.values()):
        if node["class_type"] == "CLIPTextEncode":
            node["inputs"]["clip"] = [layer, 0]


def batch_of_two(g: Api) -> None:
    g.insert_before(g.sampler, "latent_image", "RepeatLatentBatch", "samples", amount=2)


def batch_of_the_same_kind(g: Api) -> None:
    again = g.add("VAEEncode", pixels=[g.find("ETN_KritaCanvas"), 0], vae=[g.find("VAELoader"), 0])
    g.insert_before(g.sampler, "latent_image", "LatentBatch", "samples1", samples2=[again, 0])


def reference_latent(g: Api) -> None:
    image = g.add("VAEEncode", pixels=[g.find("ETN_KritaCanvas"), 0], vae=[g.find("VAELoader"), 0])
    g.insert_before(g.sampler, "positive", "ReferenceLatent", "conditioning", latent=[image, 0])


def second_loader_of_the_locked_vae(g: Api) -> None:
    g.inputs(g.decode)["vae"] = [g.add("VAELoader", vae_name=g.inputs(g.find("VAELoader"))["vae_name"]), 0]


def picture_beside_the_output(g: Api) -> None:
    g.add("PreviewImage", images=[g.decode, 0])
    g.add("SaveImage", images=[g.decode, 0], filename_prefix="krita")


def two_outputs(g: Api) -> None:
    g.add("ETN_KritaOutput", **{**g.inputs(g.find("ETN_KritaOutput")), "name": "again"})


def layer_from_krita(g: Api) -> None:
    layer = g.add("ETN_KritaImageLayer", name="Sketch")
    mixed = g.add("ImageBlend", image1=[layer, 0], image2=[g.decode, 0], blend_factor=0.5, blend_mode="normal")
    g.add("ETN_KritaOutput", **{**g.inputs(g.find("ETN_KritaOutput")), "images": [mixed, 0]})


def text_to_krita(g: Api) -> None:
    g.add("ETN_KritaSendText", value="done", name="Note", type="text")


def upscaled_after_the_decode(g: Api) -> None:
    model = g.add("UpscaleModelLoader", model_name="OmniSR_X2_DIV2K.safetensors")
    larger = g.add("ImageUpscaleWithModel", upscale_model=[model, 0], image=[g.decode, 0])
    g.add("ETN_KritaOutput", **{**g.inputs(g.find("ETN_KritaOutput")), "images": [larger, 0]})


def mismatch_that_feeds_no_output(g: Api) -> None:
    latent = g.add("EmptySD3LatentImage" if not g.flux else "EmptyLatentImage", width=64, height=64, batch_size=1)
    g.add("VAEDecode", samples=[latent, 0], vae=[g.find("VAELoader"), 0])


def switch_between_the_same(g: Api) -> None:
    one = g.inputs(g.decode)["vae"]
    g.inputs(g.decode)["vae"] = [g.add("ComfySwitchNode", switch=True, on_false=one, on_true=one), 0]


API_VARIANTS: tuple[Callable[[Api], None], ...] = (
    tiled_decode, the_right_empty_latent, second_pass_at_a_larger_size, advanced_sampler, custom_sampler_with_a_guider,
    another_model_of_the_manifest, two_models_of_one_family, patched_model, control_net_of_the_manifest,
    two_prompts_combined, last_layer_of_clip, batch_of_two, batch_of_the_same_kind, reference_latent,
    second_loader_of_the_locked_vae, picture_beside_the_output, two_outputs, layer_from_krita, text_to_krita,
    upscaled_after_the_decode, mismatch_that_feeds_no_output, switch_between_the_same,
)  # fmt: skip

# --- in the editor's format


def reroutes(g: Editor) -> None:
    g.reroute(g.decode, "vae")
    g.reroute(g.decode, "vae")
    g.reroute(g.decode, "samples")


def loader_in_a_subgraph(g: Editor) -> None:
    g.into_subgraph(g.find("VAELoader"))


def loader_with_three_outputs_in_a_subgraph(g: Editor) -> None:
    g.into_subgraph(g.find("CheckpointLoaderSimple", "UNETLoader"))


def subgraph_in_a_subgraph(g: Editor) -> None:
    g.into_subgraph(g.into_subgraph(g.find("VAELoader")), name=SUBGRAPH.replace("1", "9"))


def file_set_from_outside_a_subgraph(g: Editor) -> None:
    loader = g.find("VAELoader")
    file = loader["widgets_values"][0]
    g.into_subgraph(loader, promoted="vae_name")["widgets_values"] = [file]


def file_from_a_primitive(g: Editor) -> None:
    loader = g.find("VAELoader")
    loader["inputs"] = [{"name": "vae_name", "type": "COMBO", "widget": {"name": "vae_name"}, "link": None}]
    value = [loader["widgets_values"][0], "fixed"]
    g.feed(g.add("PrimitiveNode", ["COMBO"], value), 0, loader, "vae_name", "COMBO")


def bypassed_unknown_lora(g: Editor) -> None:
    sampler = g.find("KSampler")
    link = g.link_to(sampler, "model")
    lora = g.add("LoraLoaderModelOnly", ["MODEL"], ["more-detail.safetensors", 1.0], mode=4)
    g.feed(g.node(link[1]), link[2], lora, "model", "MODEL")
    g.feed(lora, 0, sampler, "model", "MODEL")


def bypassed_upscale_of_latents(g: Editor) -> None:
    link = g.link_to(g.decode, "samples")
    larger = g.add("LatentUpscaleBy", ["LATENT"], ["bilinear", 2.0], mode=4)
    g.feed(g.node(link[1]), link[2], larger, "samples", "LATENT")
    g.feed(larger, 0, g.decode, "samples", "LATENT")


def muted_branch_with_another_vae(g: Editor) -> None:
    vae = g.other_vae()
    decode = g.add("VAEDecode", ["IMAGE"], [], mode=2)
    vae["mode"] = 2
    g.feed(vae, 0, decode, "vae", "VAE")
    g.feed(g.find("KSampler"), 0, decode, "samples", "LATENT")


def notes_and_groups(g: Editor) -> None:
    g.add("Note", [], ["what this is"])
    g.add("MarkdownNote", [], ["# what this is"])
    g.data["groups"].append({"title": "More", "bounding": [0, 0, 10, 10]})


def nodes_moved_and_reordered(g: Editor) -> None:
    g.data["nodes"].reverse()
    g.data["links"].reverse()
    for node in g.data["nodes"]:
        node["pos"] = {"0": 1, "1": 2}


EDITOR_VARIANTS: tuple[Callable[[Editor], None], ...] = (
    reroutes, loader_in_a_subgraph, loader_with_three_outputs_in_a_subgraph, subgraph_in_a_subgraph,
    file_set_from_outside_a_subgraph, file_from_a_primitive, bypassed_unknown_lora,
    bypassed_upscale_of_latents, muted_branch_with_another_vae, notes_and_groups, nodes_moved_and_reordered,
)  # fmt: skip


@pytest.mark.parametrize("name", GOLD)
@pytest.mark.parametrize("variant", API_VARIANTS, ids=lambda variant: variant.__name__)
def test_a_legal_variant_has_no_finding(name: str, variant: Callable[[Api], None]) -> None:
    graph = Api(name)
    variant(graph)
    assert [str(finding) for finding in check(graph).findings] == []


@pytest.mark.parametrize("name", GOLD)
@pytest.mark.parametrize("variant", EDITOR_VARIANTS, ids=lambda variant: variant.__name__)
def test_a_legal_variant_of_the_editor_has_no_finding(name: str, variant: Callable[[Editor], None]) -> None:
    graph = Editor(name)
    variant(graph)
    assert [str(finding) for finding in check(graph).findings] == []


def test_a_lora_of_the_manifest() -> None:
    graph = Api("krita_gold_standard_sdxl")
    graph.insert_before(graph.sampler, "model", "LoraLoaderModelOnly", "model",
                     lora_name="Hyper-SDXL-8steps-CFG-lora.safetensors", strength_model=1.0)  # fmt: skip
    assert check(graph).findings == ()
