"""327 real models' tensors (data/README.md), each against what it is and against every kind and family that it is not.

`fits`: the families that it is right for. `blind`: those for which it is wrong and nothing in its header says so.
"""

from __future__ import annotations

import functools
import gzip
import json
import random
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from gesso.manifest.schema import Kind
from gesso.models.identify.family import CHANNELS, UNKNOWN, Identity, identify, mismatch
from gesso.models.identify.header import FIRST, read_header
from gesso.models.identify.tensors import Header, Tensor
from tests.unit.models.conftest import Reader, head_of

DATA = Path(__file__).with_name("data")
EXPECTED: dict[str, dict[str, Any]] = json.loads((DATA / "expected.json").read_text())
PACKED: dict[str, list[list[Any]]] = json.loads(gzip.decompress((DATA / "tensors.json.gz").read_bytes()))
NOT_JUDGED = {"inpaint", "style_model"}
# The families of ComfyUI's own classes: what `model_config_from_unet` said of the same tensors when they were made.
COMFY = {
    "SD15": "sd15", "SD15_instructpix2pix": "sd15", "SD20": "sd2", "SD21UnclipH": "sd2", "SD21UnclipL": "sd2",
    "SDXL": "sdxl", "SDXL_instructpix2pix": "sdxl", "SSD1B": "sdxl", "Segmind_Vega": "sdxl", "KOALA_700M": "sdxl",
    "KOALA_1B": "sdxl", "SDXLRefiner": "sdxl-refiner", "SD3": "sd3", "Flux": "flux", "FluxSchnell": "flux",
    "FluxInpaint": "flux", "Flux2": "flux2",
}  # fmt: skip
OVIS = "ovis"  # a FluxSchnell to ComfyUI, but for another text encoder: Flux's own parts do not fit it


@functools.cache
def shapes_of(name: str) -> dict[str, list[int]]:
    """Fill the numbers into the names: rows are [name with # for numbers, shape, which numbers]."""
    shapes: dict[str, list[int]] = {}
    for pattern, shape, *numbers in PACKED[name]:
        for chosen in numbers[0] if numbers else [()]:
            rest = iter(chosen)
            shapes[re.sub("#", lambda _, rest=rest: str(next(rest)), pattern)] = shape  # type: ignore[misc]
    return shapes


@functools.cache
def identity_of(name: str) -> Identity:
    tensors = {tensor: Tensor("F16", tuple(shape)) for tensor, shape in shapes_of(name).items()}
    return identify(Header("safetensors", tensors, {}, 0, 0))


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_what_it_is(name: str) -> None:
    expected = EXPECTED[name]
    identity = identity_of(name)
    assert (identity.kind, identity.family) == (expected["kind"], expected["family"]), identity
    assert identity.latent_channels == expected.get("latents")
    assert identity.part == expected.get("part", "")
    if "comfy" in expected and name != OVIS:
        ours = COMFY.get(expected["comfy"])
        assert identity.family == ours if ours else identity.family not in CHANNELS


@pytest.mark.parametrize("name", EXPECTED)
def test_every_manifest_that_it_contradicts(name: str) -> None:
    expected = EXPECTED[name]
    identity = identity_of(name)
    accepted = {*expected["fits"], *expected.get("blind", ()), "any"}
    assert not set(expected["fits"]) & set(expected.get("blind", ()))
    for kind in get_args(Kind):
        fits = {kind} | ({"checkpoint"} if kind == "diffusion_model" else set())
        for family in (*CHANNELS, "any"):
            sentence = mismatch(identity, kind, family)
            welcome = identity.kind in {UNKNOWN, *fits} and family in accepted
            if kind in NOT_JUDGED or welcome:
                assert sentence is None, (kind, family)
            else:
                assert sentence, (kind, family)
                assert sentence.isascii()
                assert identity.evidence in sentence


LORAS = [name for name, expected in EXPECTED.items() if expected["kind"] == "lora" and expected["fits"]]
HALF = re.compile(r"[._](lora|alpha|dora_scale|hada|lokr|oft_blocks|diff)\w*(\.default)?(\.(up|down))?(\.weight)?\Z")


@pytest.mark.no_cover
@pytest.mark.parametrize("name", LORAS)
def test_a_lora_for_a_few_layers_is_no_stranger(name: str) -> None:
    """Trainers may leave out most layers: some at random, all but one block's, or all of another sort."""
    shapes, rng = shapes_of(name), random.Random(name)
    layers: dict[str, list[str]] = {}
    for tensor in shapes:
        layers.setdefault(HALF.sub("", tensor), []).append(tensor)
    for turn in range(12):
        some = rng.sample(sorted(layers), min(len(layers), rng.choice([1, 2, 5, 20])))
        if turn % 3 == 1 and (block := re.search(r"\d+", some[0])):
            some = [layer for layer in layers if re.search(rf"(?<!\d){block[0]}(?!\d)", layer)]
        elif turn % 3:
            sort = re.split(r"[._]\d+[._]", some[0])[-1]
            some = [layer for layer in layers if layer.endswith(sort)]
        tensors = {tensor: Tensor("F16", tuple(shapes[tensor])) for layer in some for tensor in layers[layer]}
        identity = identify(Header("safetensors", tensors, {}, 0, 0))
        assert identity.kind == "lora"
        for family in EXPECTED[name]["fits"]:
            assert mismatch(identity, "lora", family) is None, (family, some[:3])


def test_no_family_is_without_a_genuine_file() -> None:
    seen = {(expected["kind"], expected["family"]) for expected in EXPECTED.values()}
    assert PACKED.keys() == EXPECTED.keys()
    for family in CHANNELS:
        assert ("diffusion_model", family) in seen
        assert ("lora", family) in seen
    assert {("checkpoint", "sdxl"), ("controlnet", "sd3"), ("controlnet", "flux"), ("ipadapter", "sd15")} <= seen


@pytest.mark.parametrize("name", ["genuine-sdxl-checkpoint", "checkpoint-sdxl-inpaint", "lora-sdxl-loha", "ltx2"])
def test_a_remote_file_costs_two_requests_at_most(name: str) -> None:
    head, size = head_of(shapes_of(name))
    assert size > 50_000_000
    reader = Reader(head, size)
    assert identify(read_header(reader, size)).kind == EXPECTED[name]["kind"]
    assert len(reader.asked) <= 2
    assert sum(reader.asked) <= 1_500_000
    if name == "genuine-sdxl-checkpoint":
        assert size > 6_600_000_000
        assert reader.asked == [FIRST]


def test_headers_as_long_as_they_come() -> None:
    longest = max(len(head_of(shapes_of(name))[0]) for name in ("lora-sdxl-dora", "lora-sdxl-loha", "ltx2"))
    assert 400_000 < longest < 1_500_000
