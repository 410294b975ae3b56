"""Many ways to break a gold graph, and the finding that each must cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .graphs import GOLD, SUBGRAPH, Api, Editor, check

if TYPE_CHECKING:
    from collections.abc import Callable

    Named = tuple[str, str]

# --- in API format: each changes the graph and returns (code, node) of an expected finding


def vae_of_the_other_family(g: Api) -> Named:
    g.inputs(g.find("VAELoader"))["vae_name"] = "sdxl_vae_fp16.safetensors" if g.flux else "flux_vae.safetensors"
    return "latent-vae", g.decode


def vae_of_the_other_family_names_the_loader(g: Api) -> Named:
    vae_of_the_other_family(g)
    return "vae-lock", g.find("VAELoader")


def unknown_vae_file(g: Api) -> Named:
    g.inputs(g.find("VAELoader"))["vae_name"] = "vae-ft-mse-840000.safetensors"
    return "file-missing", g.find("VAELoader")


def decode_with_another_vae(g: Api) -> Named:
    g.inputs(g.decode)["vae"] = [g.other_vae(), 0]
    return "latent-vae", g.decode


def encode_with_another_vae(g: Api) -> Named:
    g.inputs(g.encode)["vae"] = [g.other_vae(), 0]
    return "latent-model", g.sampler


def vae_from_the_checkpoint(g: Api) -> Named:
    source = g.other_model() if g.flux else g.model
    g.inputs(g.decode)["vae"] = [source, 2]
    return "vae-lock", g.decode


def vae_from_the_checkpoint_through_a_switch(g: Api) -> Named:
    """The same kind of latents: only the VAE lock is violated."""
    source = g.other_model() if g.flux else g.model
    locked = g.inputs(g.decode)["vae"]
    switch = g.add("ComfySwitchNode", switch=True, on_false=locked, on_true=[source, 2])
    g.inputs(g.decode)["vae"] = [switch, 0]
    return "vae-lock", switch


def vae_from_the_style_through_another_device(g: Api) -> Named:
    style = g.add("ETN_KritaStyle", name="", sampler_preset="auto")
    added = g.add("SelectVAEDevice", vae=[style, 2], device="default")
    g.inputs(g.decode)["vae"] = [added, 0]
    return "vae-lock", added


def vae_from_the_style_in_krita(g: Api) -> Named:
    g.inputs(g.decode)["vae"] = [g.add("ETN_KritaStyle", name="", sampler_preset="auto"), 2]
    return "vae-lock", g.decode


def wrong_empty_latent(g: Api) -> Named:
    class_type = "EmptyLatentImage" if g.flux else "EmptySD3LatentImage"
    g.inputs(g.sampler)["latent_image"] = [g.add(class_type, width=512, height=512, batch_size=1), 0]
    return "latent-node", g.sampler


def wrong_empty_latent_decoded(g: Api) -> Named:
    class_type = "EmptyLatentImage" if g.flux else "EmptySD3LatentImage"
    g.inputs(g.decode)["samples"] = [g.add(class_type, width=512, height=512, batch_size=1), 0]
    return "latent-vae", g.decode


def latent_upscale_between_families(g: Api) -> Named:
    up = g.add("LatentUpscaleBy", samples=[g.other_latent(), 0], upscale_method="bilinear", scale_by=1.5)
    g.inputs(g.sampler)["latent_image"] = [up, 0]
    return "latent-model", g.sampler


def latent_upscale_to_a_size_between_families(g: Api) -> Named:
    up = g.add(
        "LatentUpscale", samples=[g.sampler, 0], upscale_method="bilinear", width=512, height=512, crop="disabled"
    )
    g.inputs(g.decode).update(samples=[up, 0], vae=[g.other_vae(), 0])
    return "latent-vae", g.decode


def batch_of_two_families(g: Api) -> Named:
    batch = g.insert_before(g.sampler, "latent_image", "LatentBatch", "samples1", samples2=[g.other_latent(), 0])
    return "latent-mix", batch


def composite_of_two_families(g: Api) -> Named:
    added = g.insert_before(g.sampler, "latent_image", "LatentCompositeMasked", "destination",
                         source=[g.other_latent(), 0], x=0, y=0, resize_source=False)  # fmt: skip
    return "latent-mix", added


def masked_latent_of_the_other_family(g: Api) -> Named:
    mask = g.add("SolidMask", value=1.0, width=64, height=64)
    added = g.add("SetLatentNoiseMask", samples=[g.other_latent(), 0], mask=[mask, 0])
    g.inputs(g.sampler)["latent_image"] = [added, 0]
    return "latent-model", g.sampler


def cropped_latent_of_the_other_family(g: Api) -> Named:
    crop = g.add("LatentCrop", samples=[g.other_latent(), 0], width=64, height=64, x=0, y=0)
    g.inputs(g.decode)["samples"] = [crop, 0]
    return "latent-vae", g.decode


def blended_latents(g: Api) -> Named:
    added = g.insert_before(g.decode, "samples", "LatentBlend", "samples1", samples2=[g.other_latent(), 0],
                         blend_factor=0.5)  # fmt: skip
    return "latent-mix", added


def second_model_of_the_other_family(g: Api) -> Named:
    g.inputs(g.sampler)["model"] = [g.other_model(), 0]
    return "latent-model", g.sampler


def second_model_is_not_in_the_manifest(g: Api) -> Named:
    other = g.other_model()
    g.inputs(g.sampler)["model"] = [other, 0]
    return "file-missing", other


def merged_with_a_model_of_the_other_family(g: Api) -> Named:
    merged = g.insert_before(g.sampler, "model", "ModelMergeSimple", "model1", model2=[g.other_model(), 0], ratio=0.5)
    return "model-family", merged


def swapped_text_encoders(g: Api) -> Named:
    clip = g.other_clip()
    for node in g.data.values():
        if node["class_type"] == "CLIPTextEncode":
            node["inputs"]["clip"] = clip
    return "text-family", g.sampler


def one_prompt_by_other_text_encoders(g: Api) -> Named:
    text = g.add("CLIPTextEncode", text="a", clip=g.other_clip())
    g.inputs(g.sampler)["negative"] = [text, 0]
    return "text-family", g.sampler


def prompts_of_two_families_combined(g: Api) -> Named:
    text = g.add("CLIPTextEncode", text="a", clip=g.other_clip())
    return "text-family", g.insert_before(g.sampler, "positive", "ConditioningCombine", "conditioning_1",
                                       conditioning_2=[text, 0])  # fmt: skip


def reference_of_the_other_family(g: Api) -> Named:
    added = g.insert_before(g.sampler, "positive", "ReferenceLatent", "conditioning", latent=[g.other_latent(), 0])
    return "latent-mix", added if g.inpaints else g.sampler  # its prompt contains latents already


def inpaint_conditioning_with_another_vae(g: Api) -> Named:
    canvas = g.find("ETN_KritaCanvas")
    added = g.add("InpaintModelConditioning", positive=g.inputs(g.sampler)["positive"],
                  negative=g.inputs(g.sampler)["negative"], vae=[g.other_vae(), 0], pixels=[canvas, 0],
                  mask=[canvas, 4], noise_mask=True)  # fmt: skip
    g.inputs(g.sampler).update(positive=[added, 0])
    return "latent-mix", added if g.inpaints else g.sampler


def control_net_of_the_other_family(g: Api) -> Named:
    name = "xinsir-controlnet-union-sdxl-1.0-promax" if g.flux else "FLUX.1-dev-ControlNet-Union-Pro-2.0-fp8"
    net = g.add("ControlNetLoader", control_net_name=f"{name}.safetensors")
    canvas = g.find("ETN_KritaCanvas")
    return "model-family", g.insert_before(g.sampler, "positive", "ControlNetApply", "conditioning",
                                        control_net=[net, 0], image=[canvas, 0], strength=1.0)  # fmt: skip


def unknown_lora(g: Api) -> Named:
    added = g.insert_before(g.sampler, "model", "LoraLoaderModelOnly", "model", lora_name="more-detail.safetensors",
                         strength_model=1.0)  # fmt: skip
    return "file-missing", added


def custom_sampling_of_other_latents(g: Api) -> Named:
    sampler = g.inputs(g.sampler)
    guider = g.add("BasicGuider", model=sampler["model"], conditioning=sampler["positive"])
    added = g.add("SamplerCustomAdvanced", noise=[g.add("RandomNoise", noise_seed=0), 0], guider=[guider, 0],
                  sampler=[g.add("KSamplerSelect", sampler_name="euler"), 0],
                  sigmas=[g.add("BasicScheduler", model=sampler["model"], scheduler="simple", steps=4, denoise=1.0), 0],
                  latent_image=[g.other_latent(), 0])  # fmt: skip
    g.inputs(g.decode)["samples"] = [added, 0]
    return "latent-model", added


def tiled_decode_with_another_vae(g: Api) -> Named:
    image = g.add("VAEDecodeTiled", samples=[g.sampler, 0], vae=[g.other_vae(), 0], tile_size=512, overlap=64,
                  temporal_size=64, temporal_overlap=8)  # fmt: skip
    g.inputs(g.find("ETN_KritaOutput"))["images"] = [image, 0]
    return "latent-vae", image


def model_file_with_a_typo(g: Api) -> Named:
    inputs = g.inputs(g.model)
    key = next(key for key in inputs if key.endswith("_name"))
    inputs[key] = inputs[key].replace("e", "3", 1)
    return "file-missing", g.model


def picture_from_the_server(g: Api) -> Named:
    image = g.add("LoadImage", image="example.png")
    g.inputs(g.encode)["pixels"] = [image, 0]
    return "krita-class", image


def made_up_krita_input(g: Api) -> Named:
    node = g.find("ETN_KritaCanvas")
    g.data[node]["class_type"] = "KritaInput"
    return "krita-class", node


def made_up_krita_input_is_no_class(g: Api) -> Named:
    node = g.find("ETN_KritaCanvas")
    g.data[node]["class_type"] = "KritaInput"
    return "class-missing", node


def made_up_krita_output(g: Api) -> Named:
    node = g.find("ETN_KritaOutput")
    g.data[node]["class_type"] = "KritaOutput"
    return "krita-class", node


def saves_instead_of_sending(g: Api) -> Named:
    node = g.find("ETN_KritaOutput")
    g.data[node] = {"class_type": "SaveImage", "inputs": {"images": g.inputs(node)["images"], "filename_prefix": "x"}}
    return "no-output", ""


def output_that_nothing_reaches(g: Api) -> Named:
    del g.inputs(g.find("ETN_KritaOutput"))["images"]
    return "input-missing", g.find("ETN_KritaOutput")


def vae_through_a_missing_class(g: Api) -> Named:
    return "class-missing", g.insert_before(g.decode, "vae", "VAESelector+", "vae")


def reroute_in_the_api_format(g: Api) -> Named:
    return "class-missing", g.insert_before(g.decode, "vae", "Reroute", "")


def input_that_the_class_does_not_have(g: Api) -> Named:
    g.inputs(g.sampler)["clip_skip"] = 2
    return "input-unknown", g.sampler


def input_left_out(g: Api) -> Named:
    del g.inputs(g.decode)["vae"]
    return "input-missing", g.decode


def link_to_a_node_that_is_gone(g: Api) -> Named:
    g.inputs(g.decode)["samples"] = ["999", 0]
    return "input-missing", g.decode


def link_of_another_type(g: Api) -> Named:
    g.inputs(g.sampler)["latent_image"] = [g.model, 0]
    return "input-type", g.sampler


def output_that_does_not_exist(g: Api) -> Named:
    g.inputs(g.decode)["vae"] = [g.find("VAELoader"), 3]
    return "input-type", g.decode


def sampler_that_does_not_exist(g: Api) -> Named:
    g.inputs(g.sampler)["sampler_name"] = "dpmpp_9m"
    return "input-value", g.sampler


def no_steps(g: Api) -> Named:
    g.inputs(g.sampler)["steps"] = 0
    return "input-value", g.sampler


def text_where_a_number_belongs(g: Api) -> Named:
    g.inputs(g.sampler)["denoise"] = "1.0"
    return "input-value", g.sampler


def circle(g: Api) -> Named:
    g.inputs(g.encode)["pixels"] = [g.decode, 0]
    return "cycle", g.sampler


API_MUTANTS: tuple[Callable[[Api], Named], ...] = (
    vae_of_the_other_family, vae_of_the_other_family_names_the_loader, unknown_vae_file,
    decode_with_another_vae, encode_with_another_vae, vae_from_the_checkpoint, vae_from_the_style_in_krita,
    vae_from_the_checkpoint_through_a_switch, vae_from_the_style_through_another_device,
    wrong_empty_latent, wrong_empty_latent_decoded, latent_upscale_between_families,
    latent_upscale_to_a_size_between_families, batch_of_two_families, composite_of_two_families,
    masked_latent_of_the_other_family, cropped_latent_of_the_other_family, blended_latents,
    second_model_of_the_other_family, second_model_is_not_in_the_manifest, merged_with_a_model_of_the_other_family,
    swapped_text_encoders, one_prompt_by_other_text_encoders, prompts_of_two_families_combined,
    reference_of_the_other_family, inpaint_conditioning_with_another_vae, control_net_of_the_other_family,
    unknown_lora, custom_sampling_of_other_latents, tiled_decode_with_another_vae, model_file_with_a_typo,
    picture_from_the_server, made_up_krita_input, made_up_krita_input_is_no_class, made_up_krita_output,
    saves_instead_of_sending, output_that_nothing_reaches, vae_through_a_missing_class,
    reroute_in_the_api_format, input_that_the_class_does_not_have, input_left_out, link_to_a_node_that_is_gone,
    link_of_another_type, output_that_does_not_exist, sampler_that_does_not_exist, no_steps,
    text_where_a_number_belongs, circle,
)  # fmt: skip

# --- in the editor's format: what only exists there


def muted_vae_loader(g: Editor) -> Named:
    g.find("VAELoader")["mode"] = 2
    return "input-missing", str(g.decode["id"])


def bypassed_vae_loader(g: Editor) -> Named:
    g.find("VAELoader")["mode"] = 4
    return "input-missing", str(g.decode["id"])


def muted_model_loader(g: Editor) -> Named:
    g.find("CheckpointLoaderSimple", "UNETLoader")["mode"] = 2
    return "input-missing", str(g.find("DifferentialDiffusion", "KSampler")["id"])


def muted_output(g: Editor) -> Named:
    g.find("ETN_KritaOutput")["mode"] = 2
    return "no-output", ""


def other_vae_behind_a_reroute(g: Editor) -> Named:
    g.feed(g.other_vae(), 0, g.decode, "vae", "VAE")
    g.reroute(g.decode, "vae")
    return "latent-vae", str(g.decode["id"])


def other_vae_behind_three_reroutes(g: Editor) -> Named:
    other_vae_behind_a_reroute(g)
    g.reroute(g.decode, "vae")
    g.reroute(g.decode, "vae")
    return "latent-vae", str(g.decode["id"])


def other_vae_in_a_subgraph(g: Editor) -> Named:
    loader = g.other_vae()
    g.feed(loader, 0, g.decode, "vae", "VAE")
    g.into_subgraph(loader)
    return "latent-vae", str(g.decode["id"])


def other_vae_in_a_subgraph_names_the_node_inside(g: Editor) -> Named:
    loader = g.other_vae()
    g.feed(loader, 0, g.decode, "vae", "VAE")
    instance = g.into_subgraph(loader)
    return "vae-lock", f"{instance['id']}:{loader['id']}"


def other_vae_set_from_outside_a_subgraph(g: Editor) -> Named:
    loader = g.find("VAELoader")
    instance = g.into_subgraph(loader, promoted="vae_name")
    instance["widgets_values"] = [g.other_vae_file]
    return "vae-lock", f"{instance['id']}:{loader['id']}"


def other_vae_from_a_primitive(g: Editor) -> Named:
    loader = g.find("VAELoader")
    loader["inputs"] = [{"name": "vae_name", "type": "COMBO", "widget": {"name": "vae_name"}, "link": None}]
    g.feed(g.add("PrimitiveNode", ["COMBO"], [g.other_vae_file, "fixed"]), 0, loader, "vae_name", "COMBO")
    return "vae-lock", str(loader["id"])


def other_vae_two_subgraphs_deep(g: Editor) -> Named:
    loader = g.other_vae()
    g.feed(loader, 0, g.decode, "vae", "VAE")
    inner = g.into_subgraph(loader)
    outer = g.into_subgraph(inner, name=SUBGRAPH.replace("1", "9"))
    return "vae-lock", f"{outer['id']}:{inner['id']}:{loader['id']}"


def value_in_the_list_changed(g: Editor) -> Named:
    g.find("VAELoader")["widgets_values"] = [g.other_vae_file]
    return "latent-vae", str(g.decode["id"])


EDITOR_MUTANTS: tuple[Callable[[Editor], Named], ...] = (
    muted_vae_loader, bypassed_vae_loader, muted_model_loader, muted_output, other_vae_behind_a_reroute,
    other_vae_behind_three_reroutes, other_vae_in_a_subgraph, other_vae_in_a_subgraph_names_the_node_inside,
    other_vae_set_from_outside_a_subgraph, other_vae_from_a_primitive, other_vae_two_subgraphs_deep,
    value_in_the_list_changed,
)  # fmt: skip


def _assert_reported(found: Any, expected: Named) -> None:
    code, node = expected
    errors = [finding for finding in found.findings if finding.is_error]
    assert (code, node) in {(f.code, f.node) for f in errors}, [str(finding) for finding in found.findings]


@pytest.mark.parametrize("name", GOLD)
@pytest.mark.parametrize("mutant", API_MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_graph_is_caught(name: str, mutant: Callable[[Api], Named]) -> None:
    graph = Api(name)
    expected = mutant(graph)
    _assert_reported(check(graph), expected)


@pytest.mark.parametrize("name", GOLD)
@pytest.mark.parametrize("mutant", EDITOR_MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_graph_of_the_editor_is_caught(name: str, mutant: Callable[[Editor], Named]) -> None:
    graph = Editor(name)
    expected = mutant(graph)
    _assert_reported(check(graph), expected)


@pytest.mark.parametrize("name", GOLD)
def test_the_gold_graphs_themselves_have_no_finding(name: str) -> None:
    assert check(Api(name)).findings == ()
    assert check(Editor(name)).findings == ()


@pytest.mark.parametrize("name", GOLD)
def test_every_gold_graph_is_wrong_in_the_other_image(name: str) -> None:
    other = "sdxl" if GOLD[name] == "flux" else "flux"
    codes = {finding.code for finding in check(Api(name), arch=other).findings}
    assert {"file-missing", "vae-lock"} <= codes
