"""The gold-standard graphs: both formats describe the same graph, and the editor can open its format.

`data/gold_node_defs.json` holds ComfyUI 0.33.0's definitions of the classes used here (GET /object_info), in the
order of the editor's widgets, without model lists and tooltips.
"""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

WORKFLOWS = Path(__file__).parents[3] / "workflows"
DEFS: dict[str, Any] = json.loads((Path(__file__).parent / "data/gold_node_defs.json").read_text())
GOLD = (
    "krita_gold_standard_sdxl",
    "krita_gold_standard_flux",
    "krita_gold_standard_sdxl_inpaint",
    "krita_gold_standard_sdxl_upscale",
)
WIDGETS = {"INT", "FLOAT", "BOOLEAN", "STRING", "COMBO"}
AUTOGROW = "COMFY_AUTOGROW_V3"
TITLE = 30  # a node's title bar lies above its `pos`
VAE_OF = {"sdxl": "sdxl_vae_fp16.safetensors", "flux": "flux_vae.safetensors"}
VAE_USERS = {
    "VAEEncode",
    "VAEDecode",
    "VAEEncodeTiled",
    "VAEDecodeTiled",
    "INPAINT_VAEEncodeInpaintConditioning",
}


def ui(name: str) -> dict[str, Any]:
    graph: dict[str, Any] = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    return graph


def api(name: str) -> dict[str, Any]:
    graph: dict[str, Any] = json.loads((WORKFLOWS / f"{name}.api.json").read_text(encoding="utf-8"))
    return graph


def widget_values(node: dict[str, Any]) -> dict[str, Any]:
    """The editor's list of values by name, in the definition's order; a seed has one more value."""
    values, named, at = node["widgets_values"], {}, 0
    for field in DEFS[node["type"]]["inputs"]:
        if field["type"] not in WIDGETS:
            continue
        if at == len(values) and field.get("optional"):
            break  # ETN_Parameter shows no min and max for a text
        named[field["name"]] = values[at]
        at += 1
        if field.get("control_after_generate"):
            assert values[at] == "fixed", f"{node['title']}: the seed must stay as it is"
            at += 1
    assert at == len(values), f"{node['title']}: {len(values) - at} widget values too many"
    return named


def to_api(graph: dict[str, Any]) -> dict[str, Any]:
    """The editor's own export, for graphs without muted nodes, reroutes and subgraphs."""
    source = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    result = {}
    for node in graph["nodes"]:
        inputs = widget_values(node)
        inputs |= {i["name"]: source[i["link"]] for i in node["inputs"] if i["link"] is not None}
        meta = {"title": node["title"]}
        result[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": meta}
    return result


def field_of(class_type: str, name: str) -> dict[str, Any]:
    """The definition of an input; `values.a` grows out of `values`."""
    fields = {f["name"]: f for f in DEFS[class_type]["inputs"]}
    if name in fields:
        return dict(fields[name])
    assert fields[name.partition(".")[0]]["type"] == AUTOGROW
    return {"name": name, "type": "FLOAT,INT,BOOLEAN"}


def ancestors(graph: dict[str, Any], start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        node_id = todo.pop()
        if node_id not in seen:
            seen.add(node_id)
            todo += [v[0] for v in graph[node_id]["inputs"].values() if isinstance(v, list)]
    return seen


@pytest.mark.parametrize("name", GOLD)
def test_both_formats_describe_the_same_graph(name: str) -> None:
    assert to_api(ui(name)) == api(name)


@pytest.mark.parametrize("name", GOLD)
def test_values_have_the_same_types(name: str) -> None:
    """1 == 1.0 == True in Python, not in JSON that Krita reads."""
    for node_id, node in to_api(ui(name)).items():
        for key, value in node["inputs"].items():
            assert type(value) is type(api(name)[node_id]["inputs"][key]), (node_id, key)


def test_a_changed_widget_link_or_seed_is_detected() -> None:
    """The comparison above can fail."""
    base = api(GOLD[0])
    changed = ui(GOLD[0])
    sampler = next(n for n in changed["nodes"] if n["type"] == "KSampler")
    sampler["widgets_values"][4] = "euler"
    assert to_api(changed) != base
    changed = ui(GOLD[0])
    changed["links"][0][2] += 1
    assert to_api(changed) != base
    changed = ui(GOLD[0])
    sampler = next(n for n in changed["nodes"] if n["type"] == "KSampler")
    del sampler["widgets_values"][1]
    with pytest.raises(AssertionError, match="seed must stay"):
        to_api(changed)


@pytest.mark.parametrize("name", GOLD)
def test_links_agree_with_their_sockets(name: str) -> None:
    graph = ui(name)
    nodes = {n["id"]: n for n in graph["nodes"]}
    assert graph["version"] == 0.4
    assert graph["last_node_id"] == max(nodes)
    assert graph["last_link_id"] == max(link[0] for link in graph["links"])
    assert len({link[0] for link in graph["links"]}) == len(graph["links"])
    for link_id, source, out_slot, target, in_slot, kind in graph["links"]:
        out = nodes[source]["outputs"][out_slot]
        into = nodes[target]["inputs"][in_slot]
        assert link_id in out["links"]
        assert into["link"] == link_id
        assert kind == out["type"]
        assert kind in into["type"].split(",")
    for node in graph["nodes"]:
        linked = {i["link"] for i in node["inputs"]} - {None}
        assert linked == {link[0] for link in graph["links"] if link[3] == node["id"]}
        leaving = {i for o in node["outputs"] for i in o["links"] or ()}
        assert leaving == {link[0] for link in graph["links"] if link[1] == node["id"]}


@pytest.mark.parametrize("name", GOLD)
def test_inputs_match_the_definitions(name: str) -> None:
    graph = api(name)
    for node in graph.values():
        definition = DEFS[node["class_type"]]
        for key, value in node["inputs"].items():
            field = field_of(node["class_type"], key)
            if isinstance(value, list):
                source = DEFS[graph[value[0]]["class_type"]]["outputs"][value[1]]["type"]
                assert source == "*" or source in field["type"].split(","), (node["_meta"], key)
            elif "options" in field:
                assert value in field["options"], (node["_meta"], key)
            elif field["type"] in {"INT", "FLOAT"}:
                assert field.get("min", value) <= value <= field.get("max", value)
        required = {f["name"] for f in definition["inputs"] if not f.get("optional")}
        present = {key.split(".")[0] for key in node["inputs"]}
        assert required <= present, node["_meta"]


@pytest.mark.parametrize("name", GOLD)
def test_layout_is_clean(name: str) -> None:
    """Left to right, nothing on top of anything else, every node in one titled group, none muted."""
    graph = ui(name)
    boxes = {}
    for node in graph["nodes"]:
        assert node["mode"] == 0
        assert node["title"]
        (x, y), (width, height) = node["pos"], node["size"]
        boxes[node["id"]] = (x, y - TITLE, x + width, y + height)
    for (one, a), (other, b) in combinations(boxes.items(), 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"nodes {one} and {other} overlap"
    for link in graph["links"]:
        assert boxes[link[1]][2] <= boxes[link[3]][0], f"link {link[0]} runs backwards"
    groups = {g["title"]: g["bounding"] for g in graph["groups"]}
    assert len(groups) == len(graph["groups"])
    for node_id, (left, top, right, bottom) in boxes.items():
        holding = [
            title
            for title, (x, y, width, height) in groups.items()
            if x <= left and y <= top and right <= x + width and bottom <= y + height
        ]
        assert len(holding) == 1, f"node {node_id} lies in {holding}"


@pytest.mark.parametrize("name", GOLD)
def test_every_node_is_used(name: str) -> None:
    graph = api(name)
    outputs = [i for i, n in graph.items() if n["class_type"] == "ETN_KritaOutput"]
    assert len(outputs) == 1
    assert ancestors(graph, outputs[0]) == set(graph)


@pytest.mark.parametrize("name", GOLD)
def test_krita_can_import_it(name: str) -> None:
    """Numbers as ids, ETN_ nodes at both ends, parameter names unique and ordered, values in range."""
    graph = api(name)
    assert all(node_id.isdigit() for node_id in graph)
    classes = [n["class_type"] for n in graph.values()]
    assert classes.count("ETN_KritaCanvas") == 1
    assert not {"LoadImage", "SaveImage", "PreviewImage", "ETN_KritaStyle", "ETN_KritaStyleAndPrompt"} & set(classes)
    parameters = [n["inputs"] for n in graph.values() if n["class_type"] == "ETN_Parameter"]
    names = [p["name"] for p in parameters]
    assert len(set(names)) == len(names)
    for parameter in parameters:
        group, _, label = parameter["name"].partition("/")
        assert group[:3] in {"1. ", "2. ", "3. "}
        assert label[1:3] == ". "
        default = parameter["default"]
        match parameter["type"]:
            case "number":
                assert isinstance(default, float)
                assert parameter["min"] <= default <= parameter["max"]
            case "number (integer)":
                assert isinstance(default, int)
                assert parameter["min"] <= default <= parameter["max"]
            case "prompt (positive)" | "prompt (negative)":
                assert isinstance(default, str)
                assert default
            case other:
                pytest.fail(f"unexpected parameter type {other}")
    expected = ["Positive", "trength", "Steps", "Guidance", "Seed"]
    assert all(any(part in name for name in names) for part in expected)


@pytest.mark.parametrize("name", GOLD)
def test_each_parameter_feeds_one_widget(name: str) -> None:
    """The editor gives a parameter the range and type of the one widget it feeds; with two it loses them."""
    graph = ui(name)
    nodes = {n["id"]: n for n in graph["nodes"]}
    for node in (n for n in graph["nodes"] if n["type"] == "ETN_Parameter"):
        (link,) = (x for x in graph["links"] if x[1] == node["id"])
        assert "widget" in nodes[link[3]]["inputs"][link[4]], node["title"]


@pytest.mark.parametrize("name", GOLD)
def test_vae_is_locked(name: str) -> None:
    """One VAELoader of the right family feeds every VAE input; the checkpoint's VAE is not used."""
    graph = api(name)
    ((vae_id, vae),) = ((i, n) for i, n in graph.items() if n["class_type"] == "VAELoader")
    assert vae["inputs"]["vae_name"] == VAE_OF["flux" if name.endswith("flux") else "sdxl"]
    users = [n for n in graph.values() if n["class_type"] in VAE_USERS]
    assert len(users) >= 2
    assert all(n["inputs"]["vae"] == [vae_id, 0] for n in users)
    assert all(n in users for n in graph.values() if "vae" in n["inputs"])


@pytest.mark.parametrize("name", GOLD)
def test_result_lands_where_the_selection_was_taken(name: str) -> None:
    graph = api(name)
    output = next(n["inputs"] for n in graph.values() if n["class_type"] == "ETN_KritaOutput")
    selection = next((i for i, n in graph.items() if n["class_type"] == "ETN_KritaSelection"), None)
    if name.endswith("upscale"):
        assert selection is None
        assert output["resize_canvas"] is True
    else:
        assert (output["x"], output["y"]) == ([selection, 2], [selection, 3])
        assert output["resize_canvas"] is False
