"""ComfyUI's own editor opens the gold graphs and exports exactly our API format; and we parse what it parses."""

from __future__ import annotations

import asyncio
import importlib.resources
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from gesso import report
from gesso.workflow import check as checks
from gesso.workflow.command import for_host
from gesso.workflow.graph import Graph, Link, from_api

from . import browser
from .test_gold import GOLD, PROJECT, load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gesso.workflow.object_info import NodeClasses


@pytest.fixture(scope="module")
def chromium() -> str:
    found = os.environ.get("GESSO_CHROMIUM") or shutil.which("chromium")
    if not found:
        pytest.skip("SKIPPED, not passed: there is no chromium, and GESSO_CHROMIUM is not set")
    return found


def exported(chromium: str, url: str, folder: Path, graphs: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    async def each(debugging: str) -> dict[str, dict[str, Any]]:
        async with browser.editor(debugging, url) as export:
            return {name: await export(text) for name, text in graphs.items()}

    with browser.chromium(chromium, folder) as debugging:
        return asyncio.run(each(debugging))


def test_the_editors_own_export_is_our_api_format(url: str, chromium: str, tmp_path: Path) -> None:
    graphs = {name: (PROJECT.workflows / f"{name}.json").read_text(encoding="utf-8") for name in GOLD}
    assert exported(chromium, url, tmp_path, graphs) == {name: load(name) for name in GOLD}


def test_official_templates_are_parsed_as_by_the_editor(url: str, chromium: str, tmp_path: Path) -> None:
    """Same links and same files everywhere. Where ids inside two subgraphs are the same, the editor renumbers."""
    classes = for_host(PROJECT, "sdxl")[1]
    folder = importlib.resources.files("comfyui_workflow_templates_json") / "templates"
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.name.endswith(".json")}
    ours = {
        name: checks.read(text, name, classes) for name, text in sorted(texts.items()) if "nodes" in json.loads(text)
    }
    ours = {name: graph for name, graph in ours.items() if all(n.type in classes for n in graph.nodes.values())}
    theirs = exported(chromium, url, tmp_path, {name: texts[name] for name in ours})
    renumbered = [name for name, graph in ours.items() if set(graph.nodes) != set(theirs[name])]
    different = {
        name: found
        for name, graph in ours.items()
        if name not in renumbered and (found := differences(graph, theirs[name]))
    }
    report.progress(
        f"{len(ours)} templates, {len(renumbered)} renumbered by the editor, {len(different)} read differently"
    )
    assert len(ours) > 150
    assert len(renumbered) < 0.05 * len(ours)
    assert different == {}
    for name in renumbered:
        other = from_api(theirs[name], name)
        assert running_types(other, classes) == running_types(ours[name], classes), name


def running_types(graph: Graph, classes: NodeClasses) -> list[str]:
    """Return the classes of what runs; the editor leaves the content of bypassed subgraphs, unconnected."""
    return sorted(graph.nodes[name].type for name in checks.live_nodes(graph, classes))


def differences(ours: Graph, theirs: dict[str, Any]) -> list[str]:
    """Compare links, and values that both name; the editor adds defaults and its own fields."""
    found = []
    for name, node in ours.nodes.items():
        inputs = theirs[name]["inputs"]
        for key in {*node.inputs, *inputs}:
            mine, other = node.inputs.get(key), inputs.get(key)
            mine_is_link, other_is_link = isinstance(mine, Link), isinstance(other, list) and other[0] in theirs
            if isinstance(other, dict) and "__value__" in other:
                other = other["__value__"]
            if mine_is_link or other_is_link:
                same = isinstance(mine, Link) and list(mine) == other
            else:
                same = key not in node.inputs or key not in inputs or mine == other
            if not same:
                found.append(f"{name} {node.type} {key}: {other!r:.80}, read as {mine!r:.80}")
    return found
