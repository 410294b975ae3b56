"""Convert the editor's format as the editor does to queue a graph: without muted, bypassed and display-only nodes.

Subgraphs are expanded: node 30 inside node 57 becomes "57:30", the id that ComfyUI uses at run time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gesso.workflow.findings import printable
from gesso.workflow.graph import MAX_NODES, Graph, GraphError, Link, Node
from gesso.workflow.ui_format import SUBGRAPH_INPUTS, UiGraph, UiInput, UiNode, read_ui_graph
from gesso.workflow.ui_widgets import named_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gesso.workflow.object_info import NodeClasses

DISPLAY_ONLY = {"Note", "MarkdownNote"}
REROUTE, PRIMITIVE = "Reroute", "PrimitiveNode"
_MAX_DEPTH = 30
_MAX_STEPS = 10_000  # from an input to its source


class _Nothing:
    """The input is not connected."""


NOTHING = _Nothing()


@dataclass(frozen=True)
class _Value:
    """A value that arrives by a link: from a PrimitiveNode or an input of a subgraph."""

    value: Any


@dataclass(frozen=True)
class _Scope:
    """The top graph, or one use of a subgraph: the inside of the node `instance` of the scope `outer`."""

    graph: UiGraph
    prefix: str = ""
    instance: UiNode | None = None
    outer: _Scope | None = None
    inner: dict[str, _Scope] = field(default_factory=dict, compare=False)


def ui_to_api(data: dict[str, Any], file: str, classes: NodeClasses) -> Graph:
    """Convert the editor's format; `classes` define which widget value belongs to which input.

    Raises GraphError.
    """
    return _Converter(data, file, classes).graph()


class _Converter:
    """Converts one file; holds its subgraphs by id and the scopes in which they are used."""

    def __init__(self, data: dict[str, Any], file: str, classes: NodeClasses) -> None:
        self.file, self.classes = file, classes
        definitions = data.get("definitions")
        subgraphs = definitions.get("subgraphs") if isinstance(definitions, dict) else None
        self.subgraphs = {
            raw["id"]: read_ui_graph(raw, file)
            for raw in (subgraphs if isinstance(subgraphs, list) else [])
            if isinstance(raw, dict) and isinstance(raw.get("id"), str)
        }
        self.top = _Scope(read_ui_graph(data, file))
        self.count = 0

    def graph(self) -> Graph:
        """Expand all subgraphs and resolve all links."""
        nodes: dict[str, Node] = {}
        inactive: set[str] = set()
        for scope in self._scopes(self.top, 0):
            for node in scope.graph.nodes.values():
                name = scope.prefix + node.id
                if node.muted or node.bypassed:
                    inactive.add(name)
                elif node.type not in {*DISPLAY_ONLY, REROUTE, PRIMITIVE} and node.id not in scope.inner:
                    nodes[name] = self._node(scope, node, name)
        return Graph(self.file, "editor", nodes, frozenset(inactive))

    def _scopes(self, scope: _Scope, depth: int) -> Iterator[_Scope]:
        """Yield this scope and those of all active subgraphs in it, inner ones first."""
        if depth > _MAX_DEPTH:
            raise GraphError(f"{self.file}: subgraphs are nested without end", "a subgraph cannot contain itself")
        self.count += len(scope.graph.nodes)
        if self.count > MAX_NODES:
            raise GraphError(f"{self.file}: more than {MAX_NODES} nodes with its subgraphs expanded", "split it")
        opened = []
        for node in scope.graph.nodes.values():
            if node.type in self.subgraphs and not node.muted and not node.bypassed:
                name = scope.prefix + node.id
                scope.inner[node.id] = _Scope(self.subgraphs[node.type], f"{name}:", node, scope)
                opened.append(scope.inner[node.id])
            elif node.type.startswith(("workflow>", "workflow/")):
                label = f"{printable(node.id)} {printable(node.title)!r}"
                raise GraphError(
                    f"{self.file}: node {label} is a group node of an old editor",
                    "convert it to a subgraph, or ungroup it, then save again",
                )
        for inner in opened:
            yield from self._scopes(inner, depth + 1)
        yield scope

    def _node(self, scope: _Scope, node: UiNode, name: str) -> Node:
        values, ordered = named_values(node, self.classes.get(node.type))
        inputs: dict[str, Any] = dict(values)
        for item in node.inputs:
            source = self._source(scope, item)
            if isinstance(source, Link):
                inputs[item.name] = source
            elif isinstance(source, _Value):
                inputs[item.name] = source.value
            elif item.link is not None and not item.widget:
                inputs.pop(item.name, None)
        return Node(name, node.type, node.title, inputs, ordered)

    def _source(self, scope: _Scope, target: UiInput) -> Link | _Value | _Nothing:
        """Trace an input back to the output or the value that feeds it."""
        link_id, type_ = target.link, target.type
        for _ in range(_MAX_STEPS):
            link = scope.graph.links.get(link_id) if link_id is not None else None
            if link is None:
                return NOTHING
            step: tuple[_Scope, int | None] | Link | _Value | _Nothing
            if link.source == SUBGRAPH_INPUTS and scope.outer is not None:
                step = self._outward(scope, link.source_slot)
            else:
                step = self._backward(scope, link.source, link.source_slot, type_)
            if not isinstance(step, tuple) or isinstance(step, Link):
                return step
            scope, link_id = step
        raise GraphError(f"{self.file}: links form a cycle", "save it from ComfyUI again")

    def _outward(self, scope: _Scope, slot: int) -> tuple[_Scope, int | None] | _Value | _Nothing:
        """Leave a subgraph through one of its inputs."""
        instance, outer = scope.instance, scope.outer
        assert instance is not None
        assert outer is not None
        name = scope.graph.inputs[slot] if 0 <= slot < len(scope.graph.inputs) else None
        target = next((item for item in instance.inputs if item.name == name), None)
        if target is not None and target.link is not None:
            return outer, target.link
        promoted = scope.graph.promoted
        if name is None or name not in promoted:
            return NOTHING
        if isinstance(instance.values, list) and len(instance.values) == len(promoted):
            return _Value(instance.values[list(promoted).index(name)])
        inner, edge = promoted[name]
        node = scope.graph.nodes[inner]
        named, _ = named_values(node, self.classes.get(node.type))
        return _Value(named[edge]) if edge in named else NOTHING

    def _backward(
        self, scope: _Scope, source: str, slot: int, type_: str
    ) -> tuple[_Scope, int | None] | Link | _Value | _Nothing:
        """Go from an output to its source."""
        node = scope.graph.nodes.get(source)
        if node is None or node.muted or node.type in DISPLAY_ONLY:
            return NOTHING
        if node.bypassed:
            return scope, _bypass_link(node, slot, type_)
        if node.type == REROUTE:
            return scope, node.inputs[0].link if node.inputs else None
        if node.type == PRIMITIVE:
            return _Value(node.values[0]) if isinstance(node.values, list) and node.values else NOTHING
        inner = scope.inner.get(source)
        return Link(scope.prefix + source, slot) if inner is None else self._inward(inner, slot, type_)

    def _inward(self, inner: _Scope, slot: int, type_: str) -> tuple[_Scope, int | None] | Link | _Value | _Nothing:
        """Enter a subgraph through one of its outputs."""
        link = (inner.graph.outputs or {}).get(slot)
        if link is None:
            return NOTHING
        if link.source == SUBGRAPH_INPUTS:
            return self._outward(inner, link.source_slot)
        return self._backward(inner, link.source, link.source_slot, type_)


def _bypass_link(node: UiNode, slot: int, type_: str) -> int | None:
    """Return the link that a bypassed node passes on: the input at the output's index, else the first of its type."""
    out = node.outputs[slot] if 0 <= slot < len(node.outputs) else type_
    if "*" in {type_, out}:
        if not node.inputs:
            return None
        return node.inputs[slot if 0 <= slot < len(node.inputs) else 0].link
    if 0 <= slot < len(node.inputs) and node.inputs[slot].type in {out, "*"}:
        return node.inputs[slot].link
    return next((item.link for item in node.inputs if item.type == out), None)
