"""The gold graphs on the real ComfyUI: accepted, run to Krita's output, and failing as in the incident when broken."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from gesso import report
from gesso.settings import Project
from gesso.workflow import check as checks
from gesso.workflow.command import check_file, for_host
from gesso.workflow.object_info import NodeClasses

from . import comfyui

PROJECT = Project(Path(__file__).resolve().parents[2])
GOLD = {
    "krita_gold_standard_sdxl": "sdxl",
    "krita_gold_standard_sdxl_inpaint": "sdxl",
    "krita_gold_standard_sdxl_upscale": "sdxl",
    "krita_gold_standard_flux": "flux",
}
# A canvas whose sides are multiples of everything, and one of nothing.
SIZES = [(128, 128), (131, 97)]
# 4 channels instead of 16, or the other way round: a UNet reports it; FLUX packs 2x2 of them, so 16 meets 64.
_MISMATCH = (
    r"expected input\[.*\] to have (4|5) channels, but got (16|17) channels"
    r"|shapes cannot be multiplied \(\d+x16 and 64x3072\)"
)
SWAPPED = {"sdxl": "flux_vae.safetensors", "flux": "sdxl_vae_fp16.safetensors"}


def load(name: str) -> dict[str, Any]:
    graph: dict[str, Any] = json.loads((PROJECT.workflows / f"{name}.api.json").read_text(encoding="utf-8"))
    return graph


def quick(graph: dict[str, Any], width: int, height: int, **more: Any) -> dict[str, Any]:
    """One step, and for inpainting a small work size."""
    return comfyui.as_krita_sends_it(graph, width, height, **{"steps": 1, "work": 0.016, **more})


def test_the_recorded_classes_are_those_of_this_comfyui(url: str) -> None:
    live = NodeClasses(asyncio.run(comfyui.get(url, "/object_info")))
    recorded = for_host(PROJECT, "sdxl")[1]
    assert set(recorded) - set(live) == set()
    for name in recorded:
        one, other = recorded.get(name), live.get(name)
        assert one is not None
        assert other is not None
        assert (list(one.inputs), one.outputs) == (list(other.inputs), other.outputs), name


@pytest.mark.parametrize("name", GOLD)
def test_the_check_against_the_live_classes_has_no_finding(url: str, name: str) -> None:
    live = NodeClasses(asyncio.run(comfyui.get(url, "/object_info")))
    for suffix in (".json", ".api.json"):
        checked = check_file(PROJECT.workflows / f"{name}{suffix}", for_host(PROJECT, GOLD[name])[0], live)
        assert [str(finding) for finding in checked.findings] == []


@pytest.mark.parametrize("name", GOLD)
def test_the_graph_is_accepted_as_it_is(url: str, name: str) -> None:
    assert comfyui.accepted(url, load(name)) == ""


@pytest.mark.parametrize("name", GOLD)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_it_runs_to_its_output(url: str, name: str, width: int, height: int) -> None:
    outcome = comfyui.run(url, quick(load(name), width, height))
    report.progress(f"{name} at {width}x{height}: {outcome.error or outcome.pictures} in {outcome.seconds:.1f} s")
    assert outcome.error == "", outcome.failed_at
    larger = 2 if name.endswith("upscale") else 1
    assert outcome.pictures == ((width * larger, height * larger),)
    assert outcome.info["resize_canvas"] is (larger == 2)


@pytest.mark.parametrize("name", [name for name in GOLD if not name.endswith("upscale")])
def test_it_runs_with_less_strength(url: str, name: str) -> None:
    outcome = comfyui.run(url, quick(load(name), 128, 128, strength=0.5, selection=True))
    report.progress(f"{name} at strength 0.5: {outcome.error or outcome.pictures} in {outcome.seconds:.1f} s")
    assert (outcome.error, outcome.pictures) == ("", ((128, 128),))


@pytest.mark.parametrize("name", GOLD)
def test_the_other_familys_vae_fails_as_in_the_incident_and_as_checked(url: str, name: str) -> None:
    graph = load(name)
    loader = next(node for node in graph.values() if node["class_type"] == "VAELoader")
    loader["inputs"]["vae_name"] = SWAPPED[GOLD[name]]
    arch, classes = for_host(PROJECT, GOLD[name])
    result = checks.check(checks.read(json.dumps(graph), name, classes), classes, arch).errors
    outcome = comfyui.run(url, quick(graph, 128, 128, strength=0.5))
    report.progress(f"{name}, other VAE: node {outcome.failed_at}: {outcome.error.strip()} ({outcome.seconds:.1f} s)")
    assert re.search(_MISMATCH, outcome.error), outcome
    named = {finding.node for finding in result if finding.code.startswith("latent-")}
    assert outcome.failed_at in named, [str(finding) for finding in result]
