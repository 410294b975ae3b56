"""ComfyUI accepts the baked graphs: it has every class that they use, and validates each unchanged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import requests

from .options import ROOT

if TYPE_CHECKING:
    from docker.models.images import Image

    from gesso.manifest.schema import Manifest

    from .conftest import Instance, Instances


@pytest.fixture(scope="module")
def graphs(manifest: Manifest) -> dict[str, dict[str, Any]]:
    return {w.name: json.loads((ROOT / "workflows" / f"{w.name}.api.json").read_text()) for w in manifest.workflows}


@pytest.fixture(scope="module")
def listed(image: Image, instances: Instances, manifest: Manifest) -> Instance:
    """An instance with a file of each model's name: ComfyUI validates a graph by the names that it lists.

    The real models are out of reach of a test; the agent, which would quarantine the empty files, is stopped.
    """
    mine = instances.start(image)
    mine.wait_until_healthy()
    if not manifest.trial:
        mine.supervisor("stop agent")
        for model in manifest.models:
            made = f"mkdir -p $(dirname /workspace/models/{model.name}); : >> /workspace/models/{model.name}"
            assert mine.run(made).rc == 0
    return mine


def test_every_class_of_the_baked_graphs_exists(listed: Instance, graphs: dict[str, dict[str, Any]]) -> None:
    classes = listed.json("/object_info")
    used = {node["class_type"] for graph in graphs.values() for node in graph.values()}
    assert sorted(used - classes.keys()) == []


def test_comfyui_accepts_every_baked_graph(listed: Instance, graphs: dict[str, dict[str, Any]]) -> None:
    for name, graph in graphs.items():
        answer = requests.post(f"{listed.url}/{listed.token}/prompt", json={"prompt": graph}, timeout=60)
        assert answer.status_code == 200, (name, answer.text[:1000])
        assert answer.json()["node_errors"] == {}, name
        assert answer.json()["prompt_id"], name
