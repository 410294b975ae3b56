"""ComfyUI's official templates: several hundred legal graphs that were not written for this check.

The figures are printed (`pytest -s`); docs/maintainer.md has those of the last change.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from gesso import report
from gesso.workflow import check as checks
from gesso.workflow.dataflow import ModelInfo, known_edges
from gesso.workflow.families import latents_of
from tests.integration.workflow.template_families import resolve
from tests.unit.workflow.graphs import PROJECT, recorded_classes

if TYPE_CHECKING:
    from gesso.workflow.check import CheckResult

MISMATCHES = {"latent-vae", "latent-model", "latent-node", "latent-mix", "text-family", "model-family"}
# VAEs to swap in: 4 channels, and 16
FOREIGN_VAES = {"foreign-sdxl.safetensors": "sdxl", "foreign-flux.safetensors": "flux"}


@functools.cache
def templates() -> dict[str, str]:
    folder = importlib.resources.files("comfyui_workflow_templates_json") / "templates"
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.name.endswith(".json")}
    return {name: text for name, text in sorted(texts.items()) if "nodes" in json.loads(text)}


@functools.cache
def checked() -> dict[str, CheckResult]:
    classes = recorded_classes()
    return {
        name: checks.check(checks.read(text, name, classes), classes, resolve=resolve)
        for name, text in templates().items()
    }


def makes_images(found: CheckResult) -> bool:
    """Whether a local model creates an image in it (and not a video, audio, or a remote service)."""
    classes = {node.type for node in found.graph.nodes.values()}
    samples = any(
        name in classes for name in ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
    )
    moving = any(
        word in name for name in classes for word in ("Video", "Audio", "VHS_", "Voxel", "Splat", "Mesh", "LTX")
    )
    return samples and not moving


def inferred(found: CheckResult) -> bool:
    """Whether every model, VAE and latent is known, and every prompt."""
    known, edges = known_edges(found.graph, found.dataflow, "MVLTC")
    unclear = any(f.code in {"class-unknown", "family-unknown"} for f in found.findings)
    return bool(edges) and known == edges and not unclear


def test_there_are_several_hundred_and_a_third_has_subgraphs() -> None:
    assert len(templates()) > 400
    assert sum('"subgraphs"' in text for text in templates().values()) > len(templates()) / 3


def test_every_one_is_read() -> None:
    assert set(checked()) == set(templates())
    assert all(found.graph.nodes or not found.graph.inactive for found in checked().values())


def test_none_is_reported_as_a_mismatch() -> None:
    wrong = [str(f) for found in checked().values() for f in found.findings if f.code in MISMATCHES]
    assert wrong == []


def test_their_other_errors_are_known() -> None:
    """Two use a scheduler of a pack that is not recorded; any more would be a bug of the check."""
    others = Counter(
        f.code for found in checked().values() for f in found.findings
        if f.is_error and f.code not in {*MISMATCHES, "class-missing"}
    )  # fmt: skip
    assert others == {"input-value": 2}


def test_how_much_is_inferred() -> None:
    images = {name: found for name, found in checked().items() if makes_images(found)}
    known = [name for name, found in images.items() if inferred(found)]
    unknown = Counter(
        found.graph.nodes[f.node].type
        for found in checked().values() for f in found.findings if f.code == "class-unknown"
    )  # fmt: skip
    missing = Counter(f.what for found in checked().values() for f in found.findings if f.code == "class-missing")
    everything = [found for found in checked().values() if known_edges(found.graph, found.dataflow, "ML")[1]]
    report.progress(f"{len(checked())} templates, {len(everything)} with a model, {len(images)} of them make images")
    report.progress(f"fully inferred: {len(known)} of {len(images)} image templates, "
          f"{sum(map(inferred, everything))} of all {len(everything)}")  # fmt: skip
    report.progress(f"classes without a rule: {dict(unknown) or 'none'}; classes not recorded: {len(missing)}")
    report.progress(f"not inferred: {sorted(set(images) - set(known))}")
    assert len(images) > 80
    assert len(known) >= 0.9 * len(images)
    assert not unknown


def test_a_vae_of_another_family_is_caught() -> None:
    def with_foreign_vaes(folder: str, name: str) -> ModelInfo | None:
        return ModelInfo(FOREIGN_VAES[name]) if name in FOREIGN_VAES else resolve(folder, name)

    classes = recorded_classes()
    tried, missed = 0, []
    for name, found in checked().items():
        if not inferred(found):
            continue
        live = checks.live_nodes(found.graph, classes)
        for node in [node for node in found.graph.nodes.values() if node.type == "VAELoader" and node.id in live]:
            own = resolve("vae", str(node.inputs["vae_name"]))
            assert own is not None
            for other in (f for f, family in FOREIGN_VAES.items() if latents_of(family) != latents_of(own.family)):
                changed = dataclasses.replace(node, inputs={**node.inputs, "vae_name": other})
                graph = dataclasses.replace(found.graph, nodes={**found.graph.nodes, node.id: changed})
                result = checks.check(graph, classes, resolve=with_foreign_vaes)
                tried += 1
                if not any(f.code in MISMATCHES for f in result.findings):
                    missed.append(f"{name}: node {node.id}")
    report.progress(f"VAE of another family: {tried - len(missed)} of {tried} caught; missed: {missed}")
    assert tried > 200
    assert len(missed) <= 0.05 * tried


@pytest.mark.parametrize("name", ["sdxl_simple_example.json", "flux_dev_full_text_to_image.json"])
def test_two_of_them_in_detail(name: str) -> None:
    found = checked()[name]
    family = "sdxl" if "sdxl" in name else "flux"
    assert {f.family for f in found.dataflow.facts.values() if f.kind == "M"} <= {family, "sdxl-refiner"}
    assert {f.latents.channels for f in found.dataflow.facts.values() if f.kind == "V"} == {
        4 if family == "sdxl" else 16
    }
    assert PROJECT.workflows.is_dir()
