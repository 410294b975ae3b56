"""Benchmark the workflow check: a graph of 500 nodes in both formats, and the whole command.

usage: python -m bench.workflow_check; writes bench/results/workflow_check.md
"""

from __future__ import annotations

import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gesso.settings import Project
from gesso.workflow import check as checks
from gesso.workflow.command import for_host

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "workflows" / "krita_gold_standard_sdxl"
NODES, ROUNDS, COMMAND_ROUNDS = 500, 30, 10


def main() -> None:
    """Measure, print and write."""
    started = time.perf_counter()
    arch, classes = for_host(Project(ROOT), "sdxl")
    setup = (time.perf_counter() - started) * 1e3
    rows = [f"| manifests and recorded classes, once | {setup:.0f} |"]
    for name, graph in (("API format", api()), ("the editor's format", editor()), ("a chain, API format", chain())):
        text = json.dumps(graph)
        times = [_once(text, arch, classes) for _ in range(ROUNDS)]
        rows.append(f"| {NODES} nodes, {name} | {_spread(times)} |")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.json"
        path.write_text(json.dumps(editor()))
        command = [str(Path(sys.executable).with_name("gesso")), "workflow", "check", str(path), "--arch", "sdxl"]
        rows.append(
            f"| the whole command, {NODES} nodes | {_spread([_command(command) for _ in range(COMMAND_ROUNDS)])} |"
        )
    text = (
        f"# The check of a workflow\n\nMade by `python -m bench.workflow_check`: medians of {ROUNDS} rounds "
        f"({COMMAND_ROUNDS} of the command), min to max, in ms.\n\n| what | ms |\n|---|---|\n"
        + "\n".join(rows)
        + "\n\n"
        "The command's time is Python's start, pydantic and the strict parsing of three manifests; the check itself "
        "grows with the number of nodes and links.\n"
    )
    (ROOT / "bench/results/workflow_check.md").write_text(text, encoding="utf-8")
    print(text)


def _once(text: str, arch: Any, classes: Any) -> float:
    started = time.perf_counter()
    found = checks.check(checks.read(text, "x", classes), classes, arch)
    assert not found.errors, found.errors[0]
    assert len(found.graph.nodes) == NODES
    return (time.perf_counter() - started) * 1e3


def _command(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - started) * 1e3


def _spread(times: list[float]) -> str:
    return f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})"


def api() -> dict[str, Any]:
    """Return copies of the gold graph, side by side."""
    source = json.loads(SOURCE.with_suffix(".api.json").read_text(encoding="utf-8"))
    graph: dict[str, Any] = {}
    while len(graph) < NODES:
        start = len(graph) * 10
        for name, node in source.items():
            if len(graph) == NODES:
                break
            moved = {
                key: [str(int(value[0]) + start), value[1]] if isinstance(value, list) else value
                for key, value in node["inputs"].items()
            }
            graph[str(int(name) + start)] = {**node, "inputs": moved}
    return graph


def editor() -> dict[str, Any]:
    """Return the same in the editor's format."""
    source = json.loads(SOURCE.with_suffix(".json").read_text(encoding="utf-8"))
    graph = {**source, "nodes": [], "links": []}
    while len(graph["nodes"]) < NODES:
        start = len(graph["nodes"]) * 10
        for node in copy.deepcopy(source["nodes"]):
            node["id"] += start
            for item in node["inputs"]:
                item["link"] = None if item["link"] is None else item["link"] + start
            graph["nodes"].append(node)
        graph["links"] += [[a + start, b + start, c, d + start, e, f] for a, b, c, d, e, f in source["links"]]
    graph["nodes"] = graph["nodes"][:NODES]
    return graph


def chain() -> dict[str, Any]:
    """Return the gold graph with a long chain of nodes between sampler and decode."""
    graph: dict[str, Any] = json.loads(SOURCE.with_suffix(".api.json").read_text(encoding="utf-8"))
    decode = next(node for node in graph.values() if node["class_type"] == "VAEDecode")
    while len(graph) < NODES:
        name = str(1000 + len(graph))
        before = decode["inputs"]["samples"]
        graph[name] = {"class_type": "LatentFlip", "inputs": {"samples": before, "flip_method": "x-axis: vertically"}}
        decode["inputs"]["samples"] = [name, 0]
    return graph


if __name__ == "__main__":
    main()
