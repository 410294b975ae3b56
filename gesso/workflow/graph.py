"""A graph as ComfyUI runs it: nodes with class, values and links; reading and validating the API format."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gesso.errors import ManifestError
from gesso.workflow.findings import Finding, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_NODES = 20_000
MAX_BYTES = 64_000_000  # bytes


class GraphError(ManifestError):
    """The file is not a graph, or a graph that cannot be checked."""


class Link(NamedTuple):
    """A reference to an output of another node."""

    node: str
    slot: int


@dataclass(frozen=True)
class Node:
    """One node; `inputs` holds links and plain values. `ordered` are unnamed values, in the editor's order."""

    id: str
    type: str
    title: str
    inputs: Mapping[str, Any]
    ordered: tuple[Any, ...] = ()

    def links(self) -> Iterable[tuple[str, Link]]:
        """Return each connected input with its source."""
        return ((name, value) for name, value in self.inputs.items() if isinstance(value, Link))


@dataclass(frozen=True)
class Graph:
    """A whole graph; `inactive` are nodes that the editor shows but that do not run (muted, bypassed)."""

    file: str
    format: str
    nodes: Mapping[str, Node]
    inactive: frozenset[str] = field(default=frozenset())

    def upstream(self, starts: Iterable[str]) -> set[str]:
        """Return the ids of the given nodes and of everything they depend on."""
        seen: set[str] = set()
        todo = [name for name in starts if name in self.nodes]
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += [link.node for _, link in self.nodes[name].links() if link.node in self.nodes]
        return seen


def load_json(text: str, file: str) -> Any:
    """Parse JSON.

    Raises GraphError.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise GraphError(f"{file}: nested too deeply to be a workflow", "save it from ComfyUI again") from None
    except ValueError as error:
        raise GraphError(f"{file}: not JSON: {printable(str(error))}", "save it from ComfyUI again") from None


def is_editor_format(data: Any) -> bool:
    """Check whether this is the editor's format: it has a list of nodes, the API format is a mapping of them."""
    return isinstance(data, dict) and isinstance(data.get("nodes"), list)


def from_api(data: Any, file: str) -> Graph:
    """Read the API format.

    Raises GraphError.
    """
    if not isinstance(data, dict) or not data or not all(isinstance(node, dict) for node in data.values()):
        raise GraphError(f"{file}: neither a workflow of ComfyUI's editor nor one in its API format", _HOW_TO_SAVE)
    if len(data) > MAX_NODES:
        raise GraphError(f"{file}: {len(data)} nodes; at most {MAX_NODES} are supported", "split it")
    return Graph(file, "api", {name: _api_node(name, node, file) for name, node in data.items()})


_HOW_TO_SAVE = "in ComfyUI: Workflow > Save, or Workflow > Export (API)"


def _api_node(name: str, raw: dict[str, Any], file: str) -> Node:
    type_, inputs = raw.get("class_type"), raw.get("inputs", {})
    if not isinstance(type_, str) or not isinstance(inputs, dict):
        raise GraphError(
            f"{file}: node {printable(name)} has no class_type and inputs: this is not the API format", _HOW_TO_SAVE
        )
    meta = raw.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    values = {key: _api_value(value) for key, value in inputs.items()}
    return Node(name, type_, title if isinstance(title, str) and title else type_, values)


def _api_value(value: Any) -> Any:
    """Recognise a link as ComfyUI does (`is_link`): a list of two, a node's id and the index of an output."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
        slot = value[1]
        if isinstance(slot, (int, float)) and not isinstance(slot, bool) and slot == slot // 1 and abs(slot) < 1e6:
            return Link(value[0], int(slot))
    return value


def topological_order(graph: Graph) -> tuple[list[str], set[str]]:
    """Sort the nodes so that each comes after its dependencies; also return those in or behind a cycle."""
    waiting = dict.fromkeys(graph.nodes, 0)
    feeds: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for name, node in graph.nodes.items():
        for _, link in node.links():
            if link.node in feeds:
                feeds[link.node].append(name)
                waiting[name] += 1
    ready = [name for name, count in waiting.items() if not count]
    for name in ready:  # grows during the loop
        for target in feeds[name]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return ready, set(graph.nodes) - set(ready)


def node_label(node: Node) -> str:
    """Return a node's id and title for messages."""
    return f"node {printable(node.id, 40)} {printable(node.title, 60)!r}"


def finding_at(graph: Graph, node: Node, code: str, edge: str, what: str, should: str) -> Finding:
    """Create a finding about a node."""
    return Finding(
        code=code,
        file=graph.file,
        node=printable(node.id, 60),
        title=printable(node.title, 80),
        edge=printable(edge, 80),
        what=what,
        should=should,
    )
