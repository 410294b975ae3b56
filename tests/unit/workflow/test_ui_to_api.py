"""The editor's format: what is converted, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gesso.workflow import check as checks
from gesso.workflow.graph import Graph, GraphError, Link
from gesso.workflow.object_info import NodeClasses, recorded
from tests.unit.workflow.graphs import GOLD, PROJECT, SUBGRAPH, Api, Editor, load, recorded_classes

EMPTY: dict[str, Any] = {"nodes": [], "links": [], "version": 0.4}


def read(data: Any, classes: NodeClasses | None = None) -> Graph:
    return checks.read(json.dumps(data), "x.json", classes or recorded_classes())


def node(id_: int | str, type_: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "type": type_, **more}


def test_both_formats_of_each_gold_graph_are_one_graph() -> None:
    for name in GOLD:
        editor, api = (read(load(name, suffix)) for suffix in (".json", ".api.json"))
        assert (editor.format, api.format) == ("editor", "api")
        assert checks.differences(editor, api) == []


@pytest.mark.parametrize(
    ("change", "edge"),
    [
        (lambda g: g.inputs(g.sampler).update(cfg=g.inputs(g.find("ETN_Parameter"))), "cfg"),
        (lambda g: g.inputs(g.find("VAELoader")).update(vae_name="x.safetensors"), "vae_name"),
        (lambda g: g.inputs(g.decode).update(samples=[g.encode, 0]), "samples"),
        (lambda g: g.inputs(g.find("ETN_KritaOutput")).update(x=False), "x"),
        (lambda g: g.data[g.decode]["_meta"].update(title="Other"), "title"),
        (lambda g: g.data[g.decode].update(class_type="VAEDecodeTiled"), ""),
    ],
)
def test_any_difference_between_the_formats_is_found(change: Any, edge: str) -> None:
    graph = Api("krita_gold_standard_sdxl")
    change(graph)
    found = checks.differences(read(Editor(graph.name).data), read(graph.data))
    assert [finding.edge for finding in found] == [edge]
    assert found[0].code == "formats-differ"


def test_a_node_that_only_one_format_has() -> None:
    graph = Api("krita_gold_standard_flux")
    added = graph.add("PrimitiveInt", value=1)
    (found,) = checks.differences(read(Editor(graph.name).data), read(graph.data))
    assert (found.node, found.what) == (added, "missing")


def test_numbers_and_booleans_of_equal_value_differ() -> None:
    graph = Api("krita_gold_standard_sdxl")
    output = graph.find("ETN_KritaOutput")
    graph.inputs(output)["resize_canvas"] = 0
    assert checks.differences(read(Editor(graph.name).data), read(graph.data))


def test_links_in_both_notations() -> None:
    nodes = [
        node(1, "VAELoader", outputs=[{"name": "VAE", "type": "VAE"}], widgets_values=["a.safetensors"]),
        node(2, "VAEDecode", inputs=[{"name": "vae", "type": "VAE", "link": 7}]),
    ]
    table = {"id": 7, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0, "type": "VAE"}
    for link in ([7, 1, 0, 2, 0, "VAE"], table):
        graph = read({**EMPTY, "nodes": nodes, "links": [link]})
        assert graph.nodes["2"].inputs == {"vae": Link("1", 0)}
        assert graph.nodes["1"].inputs == {"vae_name": "a.safetensors"}


@pytest.mark.parametrize(
    "link", [None, 7, [], [1, 2, 0, 3], [1, None, 0, 3, 0, "VAE"], ["1", 2, 0, 3, 0, "VAE"], [1, 2, 0.5, 3, 0, "VAE"],
             {"id": 1, "origin_id": 2}],
)  # fmt: skip
def test_a_malformed_link_connects_nothing(link: object) -> None:
    """All others are still read."""
    gold = load("krita_gold_standard_sdxl", ".json")
    right = read(gold)
    assert read({**gold, "links": [link, *gold["links"]]}) == right


def test_a_missing_link_is_no_connection() -> None:
    graph = read({**EMPTY, "nodes": [node(2, "VAEDecode", inputs=[{"name": "vae", "type": "VAE", "link": 7}])]})
    assert graph.nodes["2"].inputs == {}


def test_display_only_nodes_are_dropped() -> None:
    drawn = [node(1, "Note"), node(2, "MarkdownNote"), node(3, "Reroute"), node(4, "PrimitiveNode")]
    assert read({**EMPTY, "nodes": drawn}).nodes == {}


def test_muted_and_bypassed_nodes_do_not_run() -> None:
    graph = read({**EMPTY, "nodes": [node(1, "VAELoader", mode=2), node(2, "VAEDecode", mode=4), node(3, "VAESave")]})
    assert set(graph.nodes) == {"3"}
    assert graph.inactive == {"1", "2"}


def test_a_bypassed_node_passes_on_the_first_input_of_its_type() -> None:
    both = [{"name": "model", "type": "MODEL", "link": 1}, {"name": "clip", "type": "CLIP", "link": 2}]
    outs = [{"name": "CLIP", "type": "CLIP"}, {"name": "MODEL", "type": "MODEL"}]
    nodes = [
        node(1, "CheckpointLoaderSimple", widgets_values=["x.safetensors"]),
        node(2, "Odd", mode=4, inputs=both, outputs=outs),
        node(3, "CLIPTextEncode", inputs=[{"name": "clip", "type": "CLIP", "link": 3}]),
        node(4, "ModelSave", inputs=[{"name": "model", "type": "MODEL", "link": 4}]),
    ]
    links = [[1, 1, 0, 2, 0, "MODEL"], [2, 1, 1, 2, 1, "CLIP"], [3, 2, 0, 3, 0, "CLIP"], [4, 2, 1, 4, 0, "MODEL"]]
    graph = read({**EMPTY, "nodes": nodes, "links": links})
    assert graph.nodes["3"].inputs["clip"] == Link("1", 1)
    assert graph.nodes["4"].inputs["model"] == Link("1", 0)


def test_a_bypassed_loader_passes_on_nothing() -> None:
    graph = Editor("krita_gold_standard_sdxl")
    graph.find("VAELoader")["mode"] = 4
    found = read(graph.data)
    assert "vae" not in found.nodes[str(graph.decode["id"])].inputs


def test_inputs_and_outputs_of_a_subgraph_are_resolved() -> None:
    inner = {
        "id": SUBGRAPH,
        "inputs": [{"name": "samples", "type": "LATENT"}, {"name": "text", "type": "STRING"}],
        "outputs": [{"name": "IMAGE", "type": "IMAGE"}, {"name": "same", "type": "LATENT"}],
        "nodes": [
            node(5, "VAEDecode", inputs=[{"name": "samples", "type": "LATENT", "link": 1}]),
            node(6, "CLIPTextEncode", widgets_values=["inside"],
                 inputs=[{"name": "text", "type": "STRING", "widget": {"name": "text"}, "link": 3}]),
        ],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 5, "target_slot": 0},
            {"id": 2, "origin_id": 5, "origin_slot": 0, "target_id": -20, "target_slot": 0},
            {"id": 3, "origin_id": -10, "origin_slot": 1, "target_id": 6, "target_slot": 0},
            {"id": 4, "origin_id": -10, "origin_slot": 0, "target_id": -20, "target_slot": 1},
        ],
    }  # fmt: skip
    sockets = [
        {"name": "text", "type": "STRING", "widget": {"name": "text"}, "link": None},
        {"name": "samples", "type": "LATENT", "link": 9},
    ]
    nodes = [
        node(1, "EmptyLatentImage", widgets_values=[64, 64, 1]),
        node(2, SUBGRAPH, inputs=sockets, widgets_values=["outside"]),
        node(3, "SaveImage", inputs=[{"name": "images", "type": "IMAGE", "link": 8}]),
        node(4, "SaveLatent", inputs=[{"name": "samples", "type": "LATENT", "link": 7}]),
    ]
    links = [[9, 1, 0, 2, 1, "LATENT"], [8, 2, 0, 3, 0, "IMAGE"], [7, 2, 1, 4, 0, "LATENT"]]
    graph = read({**EMPTY, "nodes": nodes, "links": links, "definitions": {"subgraphs": [inner]}})
    assert graph.nodes["2:5"].inputs["samples"] == Link("1", 0)
    assert graph.nodes["2:6"].inputs["text"] == "outside"
    assert graph.nodes["3"].inputs["images"] == Link("2:5", 0)
    assert graph.nodes["4"].inputs["samples"] == Link("1", 0)
    assert "2" not in graph.nodes


def test_a_value_of_a_subgraph_that_also_feeds_a_plain_input() -> None:
    """Seen in official templates: an inner text widget whose value also feeds a switch without one."""
    inner = {
        "id": SUBGRAPH, "outputs": [], "inputs": [{"name": "text", "type": "STRING"}],
        "nodes": [
            node(5, "ComfySwitchNode", inputs=[{"name": "on_false", "type": "*", "link": 1}], widgets_values=[True]),
            node(6, "CLIPTextEncode", widgets_values=["inside"],
                 inputs=[{"name": "text", "type": "STRING", "widget": {"name": "text"}, "link": 2}]),
        ],
        "links": [{"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 5, "target_slot": 0},
                  {"id": 2, "origin_id": -10, "origin_slot": 0, "target_id": 6, "target_slot": 0}],
    }  # fmt: skip
    graph = read({**EMPTY, "nodes": [node(2, SUBGRAPH)], "definitions": {"subgraphs": [inner]}})
    assert graph.nodes["2:5"].inputs["on_false"] == "inside"
    assert graph.nodes["2:6"].inputs["text"] == "inside"


def test_fewer_values_than_inputs_are_assigned_in_order() -> None:
    """A file of an older ComfyUI: the editor adds defaults."""
    graph = read({**EMPTY, "nodes": [node(1, "KSampler", widgets_values=[5, "fixed", 20])]})
    assert graph.nodes["1"].inputs == {"seed": 5, "steps": 20}


def test_more_values_than_inputs_have_no_names() -> None:
    graph = read({**EMPTY, "nodes": [node(1, "VAELoader", widgets_values=["a.safetensors", "upload"])]})
    assert graph.nodes["1"].ordered == ("a.safetensors", "upload")


def test_nothing_in_a_muted_subgraph_runs() -> None:
    graph = Editor("krita_gold_standard_sdxl")
    graph.into_subgraph(graph.find("VAELoader"))["mode"] = 2
    assert not [node for node in read(graph.data).nodes.values() if node.type == "VAELoader"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "neither a workflow"),
        ({}, "neither a workflow"),
        ("x", "neither a workflow"),
        ({"1": {"inputs": {}}}, "no class_type"),
        ({"1": {"class_type": "A", "inputs": []}}, "no class_type"),
        ({"nodes": [{"type": "A"}]}, "without id or type"),
        ({"nodes": [1]}, "without id or type"),
        ({"nodes": [node(1, "A"), node(1, "B")]}, "two nodes have the id 1"),
        ({"nodes": [node(1, "workflow>mine")]}, "group node of an old editor"),
        ({str(n): {"class_type": "A"} for n in range(20_001)}, "at most 20000"),
        (
            {"nodes": [node(1, "s")], "definitions": {"subgraphs": [{"id": "s", "nodes": [node(1, "s")]}]}},
            "nested without end",
        ),
        (
            {
                "nodes": [node(1, "Reroute", inputs=[{"name": "", "type": "*", "link": 1}]),
                          node(2, "VAEDecode", inputs=[{"name": "vae", "type": "VAE", "link": 2}])],
                "links": [[1, 1, 0, 1, 0, "*"], [2, 1, 0, 2, 0, "VAE"]],
            },
            "links form a cycle",
        ),
    ],
)  # fmt: skip
def test_an_unreadable_graph_is_refused_with_a_message(data: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message) as caught:
        read(data)
    assert caught.value.exit_code == 2
    assert caught.value.next_step


def test_subgraphs_that_multiply_are_refused() -> None:
    """Twelve levels of ten each: a small file, and a thousand billion nodes."""
    subgraphs = [{"id": f"s{n}", "nodes": [node(m, f"s{n + 1}") for m in range(10)]} for n in range(12)]
    with pytest.raises(GraphError, match="more than 20000 nodes"):
        read({"nodes": [node(1, "s0")], "definitions": {"subgraphs": subgraphs}})


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "9" * 5000, '{"nodes": NaN}', "\ufeff{}"])
def test_invalid_json_is_refused(text: str) -> None:
    with pytest.raises(GraphError):
        checks.read(text, "x.json", recorded_classes())


def test_values_are_named_without_a_definition() -> None:
    sockets = [{"name": n, "type": "INT", "widget": {"name": n}, "link": None} for n in ("seed", "steps")]
    graph = read({**EMPTY, "nodes": [node(1, "Unknown", inputs=sockets, widgets_values=[5, "randomize", 20])]})
    assert graph.nodes["1"].inputs == {"seed": 5, "steps": 20}
    graph = read({**EMPTY, "nodes": [node(1, "Unknown", widgets_values=[5, 20])]})
    assert graph.nodes["1"].ordered == (5, 20)
    graph = read({**EMPTY, "nodes": [node(1, "Unknown", widgets_values={"a": 1})]})
    assert graph.nodes["1"].inputs == {"a": 1}


def test_a_loaders_file_is_found_without_any_definitions() -> None:
    for name, arch in GOLD.items():
        graph = checks.read(json.dumps(load(name, ".json")), name, NodeClasses({}))
        loader = next(n for n in graph.nodes.values() if n.type == "VAELoader")
        assert [*loader.inputs.values(), *loader.ordered] == [
            "flux_vae.safetensors" if arch == "flux" else "sdxl_vae_fp16.safetensors"
        ]


def test_the_recordings_can_be_read() -> None:
    classes = recorded(PROJECT.images)
    assert len(list(classes)) > 700
    sampler = classes.get("KSampler")
    assert sampler is not None
    assert sampler.inputs["seed"].control
    assert classes.get("NoSuchClass") is None
    assert all(classes.get(name) is not None for name in classes)
