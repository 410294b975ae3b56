"""A graph as ComfyUI runs it: nodes with class, values and links. Read from both formats, or refused in plain words."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gesso.errors import ManifestError
from gesso.workflow.findings import Finding, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST_NODES = 20_000
LARGEST = 64_000_000  # bytes


class GraphError(ManifestError):
    """This is no graph, or one that cannot be followed."""


class Link(NamedTuple):
    """The output of another node."""

    node: str
    slot: int


@dataclass(frozen=True)
class Node:
    """One node; `inputs` holds links and plain values. `ordered` are values without names, in the editor's order."""

    id: str
    type: str
    title: str
    inputs: Mapping[str, Any]
    ordered: tuple[Any, ...] = ()

    def links(self) -> Iterable[tuple[str, Link]]:
        """Give each connected input with where it comes from."""
        return ((name, value) for name, value in self.inputs.items() if isinstance(value, Link))


@dataclass(frozen=True)
class Graph:
    """A whole graph; `silent` are nodes that the editor shows but that do not run (muted, bypassed)."""

    file: str
    format: str
    nodes: Mapping[str, Node]
    silent: frozenset[str] = field(default=frozenset())

    def upstream(self, starts: Iterable[str]) -> set[str]:
        """Name the given nodes and all that they need."""
        seen: set[str] = set()
        todo = [name for name in starts if name in self.nodes]
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += [link.node for _, link in self.nodes[name].links() if link.node in self.nodes]
        return seen


def load_json(text: str, file: str) -> Any:
    """Read JSON, whatever it holds.

    Raises GraphError.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise GraphError(f"{file}: nested too deeply to be a workflow", "save it from ComfyUI again") from None
    except ValueError as error:
        raise GraphError(f"{file}: not JSON: {shown(str(error))}", "save it from ComfyUI again") from None


def is_editor_format(data: Any) -> bool:
    """Tell what the editor saves from what runs: the one has a list of nodes, the other is a table of them."""
    return isinstance(data, dict) and isinstance(data.get("nodes"), list)


def from_api(data: Any, file: str) -> Graph:
    """Read the API format.

    Raises GraphError.
    """
    if not isinstance(data, dict) or not data or not all(isinstance(node, dict) for node in data.values()):
        raise GraphError(f"{file}: neither a workflow of ComfyUI's editor nor one in its API format", _SAVE)
    if len(data) > MOST_NODES:
        raise GraphError(f"{file}: {len(data)} nodes; at most {MOST_NODES} are followed", "split it")
    return Graph(file, "api", {name: _api_node(name, node, file) for name, node in data.items()})


_SAVE = "in ComfyUI: Workflow > Save, or Workflow > Export (API)"


def _api_node(name: str, raw: dict[str, Any], file: str) -> Node:
    type_, inputs = raw.get("class_type"), raw.get("inputs", {})
    if not isinstance(type_, str) or not isinstance(inputs, dict):
        raise GraphError(f"{file}: node {shown(name)} has no class_type and inputs: this is not the API format", _SAVE)
    meta = raw.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    values = {key: _api_value(value) for key, value in inputs.items()}
    return Node(name, type_, title if isinstance(title, str) and title else type_, values)


def _api_value(value: Any) -> Any:
    """Tell a link from a value as ComfyUI does (`is_link`): a list of two, an id and the number of an output."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
        slot = value[1]
        if isinstance(slot, (int, float)) and not isinstance(slot, bool) and slot == slot // 1 and abs(slot) < 1e6:
            return Link(value[0], int(slot))
    return value


def order(graph: Graph) -> tuple[list[str], set[str]]:
    """Sort the nodes so that each comes after all that it needs; and name those that cannot be sorted: the cycles."""
    waiting = dict.fromkeys(graph.nodes, 0)
    feeds: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for name, node in graph.nodes.items():
        for _, link in node.links():
            if link.node in feeds:
                feeds[link.node].append(name)
                waiting[name] += 1
    ready = [name for name, count in waiting.items() if not count]
    for name in ready:  # grows while it is read
        for target in feeds[name]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return ready, set(graph.nodes) - set(ready)


def place(node: Node) -> str:
    """Name a node for people."""
    return f"node {shown(node.id, 40)} {shown(node.title, 60)!r}"


def finding_at(graph: Graph, node: Node, code: str, edge: str, what: str, should: str) -> Finding:
    """Make a finding of a node."""
    return Finding(
        code=code,
        file=graph.file,
        node=shown(node.id, 60),
        title=shown(node.title, 80),
        edge=shown(edge, 80),
        what=what,
        should=should,
    )
