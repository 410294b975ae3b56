"""Editable gold graphs for tests: in API format, and in the editor's with its links and subgraphs."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso.settings import Project
from gesso.workflow import check as checks
from gesso.workflow.command import for_host

if TYPE_CHECKING:
    from gesso.workflow.arch import Arch
    from gesso.workflow.check import CheckResult
    from gesso.workflow.object_info import NodeClasses

PROJECT = Project(Path(__file__).resolve().parents[3])
GOLD = {
    "krita_gold_standard_sdxl": "sdxl",
    "krita_gold_standard_sdxl_inpaint": "sdxl",
    "krita_gold_standard_sdxl_upscale": "sdxl",
    "krita_gold_standard_flux": "flux",
}
SUBGRAPH = "11111111-2222-4333-8444-555555555555"


@functools.cache
def _reference(arch: str) -> tuple[Arch, NodeClasses]:
    return for_host(PROJECT, arch)


def recorded_classes() -> NodeClasses:
    return _reference("sdxl")[1]


def check(graph: Api | Editor, *, arch: str | None = None) -> CheckResult:
    image, classes = _reference(arch or GOLD[graph.name])
    return checks.check(checks.read(json.dumps(graph.data), graph.name, classes), classes, image)


def load(name: str, suffix: str) -> dict[str, Any]:
    graph: dict[str, Any] = json.loads((PROJECT.workflows / f"{name}{suffix}").read_text(encoding="utf-8"))
    return graph


class Api:
    """A gold graph in API format."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.data = load(name, ".api.json")

    @property
    def flux(self) -> bool:
        return GOLD[self.name] == "flux"

    @property
    def inpaints(self) -> bool:
        return self.name.endswith("inpaint")

    def find(self, *classes: str) -> str:
        """The first node of one of these classes."""
        return next(i for i, node in self.data.items() if node["class_type"] in classes)

    def inputs(self, node: str) -> dict[str, Any]:
        found: dict[str, Any] = self.data[node]["inputs"]
        return found

    def add(self, class_type: str, **inputs: Any) -> str:
        node = str(max(map(int, self.data)) + 1)
        self.data[node] = {"class_type": class_type, "inputs": inputs, "_meta": {"title": f"Added {class_type}"}}
        return node

    def insert_before(self, node: str, edge: str, class_type: str, into: str, **inputs: Any) -> str:
        """Add a node between an input and its source."""
        added = self.add(class_type, **{into: self.inputs(node)[edge], **inputs})
        self.inputs(node)[edge] = [added, 0]
        return added

    @property
    def sampler(self) -> str:
        return self.find("KSampler")

    @property
    def decode(self) -> str:
        return self.find("VAEDecode", "VAEDecodeTiled")

    @property
    def encode(self) -> str:
        return self.find("VAEEncode", "VAEEncodeTiled", "INPAINT_VAEEncodeInpaintConditioning")

    @property
    def model(self) -> str:
        return self.find("CheckpointLoaderSimple", "UNETLoader")

    def clip(self) -> list[Any]:
        found: list[Any] = self.inputs(self.find("CLIPTextEncode"))["clip"]
        return found

    def other_vae(self) -> str:
        return self.add("VAELoader", vae_name="sdxl_vae_fp16.safetensors" if self.flux else "flux_vae.safetensors")

    def other_latent(self) -> str:
        """Latents that the other family's VAE encoded."""
        return self.add("VAEEncode", pixels=[self.find("ETN_KritaCanvas"), 0], vae=[self.other_vae(), 0])

    def other_model(self) -> str:
        if self.flux:
            return self.add("CheckpointLoaderSimple", ckpt_name="Juggernaut-XL-v9.safetensors")
        return self.add("UNETLoader", unet_name="flux1-krea-dev_fp8_scaled.safetensors", weight_dtype="default")

    def other_clip(self) -> list[Any]:
        if self.flux:
            return [self.other_model(), 1]
        two = {"clip_name1": "clip_l.safetensors", "clip_name2": "t5xxl_fp8_e4m3fn.safetensors"}
        return [self.add("DualCLIPLoader", **two, type="flux", device="default"), 0]


class Editor:
    """A gold graph in the editor's format."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.data = load(name, ".json")

    def find(self, *types: str) -> dict[str, Any]:
        found: dict[str, Any] = next(node for node in self.data["nodes"] if node["type"] in types)
        return found

    def link_to(self, node: dict[str, Any], edge: str) -> list[Any]:
        """The link that ends in an input."""
        id_ = next(item["link"] for item in node["inputs"] if item["name"] == edge)
        found: list[Any] = next(link for link in self.data["links"] if link[0] == id_)
        return found

    def add(self, type_: str, outputs: list[str], values: list[Any], **more: Any) -> dict[str, Any]:
        node = {
            "id": max(node["id"] for node in self.data["nodes"]) + 1, "type": type_, "mode": 0, "inputs": [],
            "outputs": [{"name": kind, "type": kind, "links": []} for kind in outputs], "title": f"Added {type_}",
            "widgets_values": values, **more,
        }  # fmt: skip
        self.data["nodes"].append(node)
        return node

    def feed(self, source: dict[str, Any], slot: int, node: dict[str, Any], edge: str, kind: str) -> None:
        """Connect an output to an input, which is added if missing."""
        at = next((at for at, item in enumerate(node["inputs"]) if item["name"] == edge), None)
        if at is None:
            node["inputs"].append({"name": edge, "type": kind, "link": None})
            at = len(node["inputs"]) - 1
        link = max(item[0] for item in self.data["links"]) + 1
        self.data["links"].append([link, source["id"], slot, node["id"], at, kind])
        node["inputs"][at]["link"] = link

    def node(self, id_: int) -> dict[str, Any]:
        found: dict[str, Any] = next(node for node in self.data["nodes"] if node["id"] == id_)
        return found

    def reroute(self, node: dict[str, Any], edge: str) -> dict[str, Any]:
        """Insert a Reroute before an input."""
        link = self.link_to(node, edge)
        added = self.add("Reroute", [link[5]], [])
        self.feed(self.node(link[1]), link[2], added, "", link[5])
        self.feed(added, 0, node, edge, link[5])
        return added

    def into_subgraph(
        self, node: dict[str, Any], *, promoted: str | None = None, name: str = SUBGRAPH
    ) -> dict[str, Any]:
        """Move a loader without inputs into a subgraph; `promoted` is an input whose value is set on the outer node."""
        instance = self.add(name, [item["type"] for item in node["outputs"]], [])
        for link in self.data["links"]:
            if link[1] == node["id"]:
                link[1] = instance["id"]
        self.data["nodes"].remove(node)
        inner = copy.deepcopy(node)
        count = len(node["outputs"])
        links = [{"id": at + 1, "origin_id": node["id"], "origin_slot": at, "target_id": -20, "target_slot": at,
                  "type": "*"} for at in range(count)]  # fmt: skip
        ends: list[dict[str, Any]] = []
        if promoted is not None:
            inner["inputs"] = [{"name": promoted, "type": "COMBO", "widget": {"name": promoted}, "link": 99}]
            links.append({"id": 99, "origin_id": -10, "origin_slot": 0, "target_id": node["id"], "target_slot": 0,
                          "type": "COMBO"})  # fmt: skip
            ends = [{"name": promoted, "type": "COMBO"}]
            instance["inputs"] = [{"name": promoted, "type": "COMBO", "widget": {"name": promoted}, "link": None}]
        definition = {
            "id": name, "name": "Inside", "nodes": [inner], "links": links, "inputs": ends,
            "outputs": [{"name": item["name"], "type": item["type"]} for item in node["outputs"]],
        }  # fmt: skip
        self.data.setdefault("definitions", {}).setdefault("subgraphs", []).append(definition)
        return instance

    @property
    def decode(self) -> dict[str, Any]:
        return self.find("VAEDecode", "VAEDecodeTiled")

    @property
    def other_vae_file(self) -> str:
        return "sdxl_vae_fp16.safetensors" if GOLD[self.name] == "flux" else "flux_vae.safetensors"

    def other_vae(self) -> dict[str, Any]:
        return self.add("VAELoader", ["VAE"], [self.other_vae_file])
