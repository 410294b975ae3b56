"""The editor's file format: one graph or the inside of one subgraph. Malformed parts are dropped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gesso.workflow.findings import printable
from gesso.workflow.graph import GraphError

if TYPE_CHECKING:
    from collections.abc import Mapping

MUTED, BYPASSED = 2, 4
SUBGRAPH_INPUTS, SUBGRAPH_OUTPUTS = "-10", "-20"  # the ids that links use for a subgraph's own inputs and outputs


class UiLink(NamedTuple):
    """A link as the editor saves it: from an output to an input."""

    source: str
    source_slot: int
    target: str
    target_slot: int


class UiInput(NamedTuple):
    """An input of a node; `widget` if a value can be entered instead of a link."""

    name: str
    type: str
    link: int | None
    widget: bool


@dataclass(frozen=True)
class UiNode:
    """A node as the editor saves it."""

    id: str
    type: str
    title: str
    mode: int
    inputs: tuple[UiInput, ...]
    outputs: tuple[str, ...]
    values: Any

    @property
    def muted(self) -> bool:
        """Whether the node does not run."""
        return self.mode == MUTED

    @property
    def bypassed(self) -> bool:
        """Whether its inputs are passed through unchanged."""
        return self.mode == BYPASSED


@dataclass(frozen=True)
class UiGraph:
    """Nodes and links; of a subgraph also the names of its inputs, the links to its outputs, and promoted widgets.

    `promoted` maps such an input to the inner node and the input of it that hold the initial value.
    """

    nodes: Mapping[str, UiNode]
    links: Mapping[int, UiLink]
    inputs: tuple[str, ...] = ()
    promoted: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    outputs: Mapping[int, UiLink] | None = None


def read_ui_graph(raw: dict[str, Any], file: str) -> UiGraph:
    """Read one graph or subgraph.

    Raises GraphError for what makes it unreadable: a node without type, an id used twice.
    """
    nodes: dict[str, UiNode] = {}
    for item in _list(raw, "nodes"):
        node = _read_node(item, file)
        if node.id in nodes:
            raise GraphError(f"{file}: two nodes have the id {printable(node.id)}", "save it from ComfyUI again")
        nodes[node.id] = node
    links = dict(filter(None, map(_read_link, _list(raw, "links"))))
    inputs = tuple(_text(item, "name") for item in _list(raw, "inputs"))
    outputs = {link.target_slot: link for link in links.values() if link.target == SUBGRAPH_OUTPUTS}
    values: dict[int, tuple[str, str]] = {}
    for link in links.values():
        inner = nodes.get(link.target) if link.source == SUBGRAPH_INPUTS else None
        if inner is not None and 0 <= link.target_slot < len(inner.inputs):
            target = inner.inputs[link.target_slot]
            if target.widget:
                values.setdefault(link.source_slot, (inner.id, target.name))
    promoted = {name: values[slot] for slot, name in enumerate(inputs) if slot in values}
    return UiGraph(nodes, links, inputs, promoted, outputs)


def _read_node(raw: Any, file: str) -> UiNode:
    id_ = raw.get("id") if isinstance(raw, dict) else None
    if not isinstance(id_, (int, str)) or not isinstance(raw.get("type"), str):
        raise GraphError(f"{file}: a node without id or type: {printable(raw, 60)}", "save it from ComfyUI again")
    title, mode = raw.get("title"), raw.get("mode")
    return UiNode(
        id=str(id_),
        type=raw["type"],
        title=title if isinstance(title, str) and title else raw["type"],
        mode=mode if isinstance(mode, int) else 0,
        inputs=tuple(_read_input(item) for item in _list(raw, "inputs")),
        outputs=tuple(_text(item, "type") for item in _list(raw, "outputs")),
        values=raw.get("widgets_values"),
    )


def _read_input(raw: Any) -> UiInput:
    link = raw.get("link") if isinstance(raw, dict) else None
    widget = isinstance(raw, dict) and isinstance(raw.get("widget"), dict)
    return UiInput(_text(raw, "name"), _text(raw, "type"), link if isinstance(link, int) else None, widget)


def _read_link(raw: Any) -> tuple[int, UiLink] | None:
    """Read a link in either of its two formats: a list, or (in subgraphs) a mapping."""
    if isinstance(raw, dict):
        raw = [raw.get(key) for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot")]
    if not isinstance(raw, list) or len(raw) < 5:
        return None
    id_, source, source_slot, target, target_slot = raw[:5]
    if not (isinstance(source, (int, str)) and isinstance(target, (int, str))):
        return None
    if not all(isinstance(number, int) for number in (id_, source_slot, target_slot)):
        return None
    return id_, UiLink(str(source), source_slot, str(target), target_slot)


def _list(raw: Any, key: str) -> list[Any]:
    found = raw.get(key) if isinstance(raw, dict) else None
    return found if isinstance(found, list) else []


def _text(raw: Any, key: str) -> str:
    """Return a string; in old files a type may be a number (0: anything)."""
    found = raw.get(key) if isinstance(raw, dict) else None
    return found if isinstance(found, str) else "*"
