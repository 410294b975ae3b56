"""One sheet of the editor's format: the graph itself or the inside of a subgraph. Odd parts are dropped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gesso.workflow.findings import shown
from gesso.workflow.graph import GraphError

if TYPE_CHECKING:
    from collections.abc import Mapping

MUTED, BYPASSED = 2, 4
SUBGRAPH_INPUTS, SUBGRAPH_OUTPUTS = "-10", "-20"  # the ends of a subgraph, as its links name them


class Wire(NamedTuple):
    """A link as the editor keeps it: where it starts and where it ends."""

    source: str
    source_slot: int
    target: str
    target_slot: int


class Socket(NamedTuple):
    """An input of a node; `widget` where a value can be typed in instead."""

    name: str
    type: str
    link: int | None
    widget: bool


@dataclass(frozen=True)
class Part:
    """A node as the editor keeps it."""

    id: str
    type: str
    title: str
    mode: int
    sockets: tuple[Socket, ...]
    outputs: tuple[str, ...]
    values: Any

    @property
    def muted(self) -> bool:
        """Whether it does nothing at all."""
        return self.mode == MUTED

    @property
    def bypassed(self) -> bool:
        """Whether what comes in goes out again unchanged."""
        return self.mode == BYPASSED


@dataclass(frozen=True)
class Sheet:
    """Nodes and links; of a subgraph also its ends: names of inputs, outputs, and the values that are set outside.

    `promoted` says for each such input which node inside, and which input of it, gives it its value at first.
    """

    parts: Mapping[str, Part]
    wires: Mapping[int, Wire]
    inputs: tuple[str, ...] = ()
    promoted: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    ends: Mapping[int, Wire] | None = None


def read_sheet(raw: dict[str, Any], file: str) -> Sheet:
    """Read one sheet.

    Raises GraphError for what makes the whole unreadable: a node without type, an id given twice.
    """
    parts: dict[str, Part] = {}
    for node in _list(raw, "nodes"):
        part = _part(node, file)
        if part.id in parts:
            raise GraphError(f"{file}: two nodes have the id {shown(part.id)}", "save it from ComfyUI again")
        parts[part.id] = part
    wires = dict(filter(None, map(_wire, _list(raw, "links"))))
    inputs = tuple(_text(item, "name") for item in _list(raw, "inputs"))
    ends = {wire.target_slot: wire for wire in wires.values() if wire.target == SUBGRAPH_OUTPUTS}
    values: dict[int, tuple[str, str]] = {}
    for wire in wires.values():
        inside = parts.get(wire.target) if wire.source == SUBGRAPH_INPUTS else None
        if inside is not None and 0 <= wire.target_slot < len(inside.sockets):
            socket = inside.sockets[wire.target_slot]
            if socket.widget:
                values.setdefault(wire.source_slot, (inside.id, socket.name))
    promoted = {name: values[slot] for slot, name in enumerate(inputs) if slot in values}
    return Sheet(parts, wires, inputs, promoted, ends)


def _part(raw: Any, file: str) -> Part:
    id_ = raw.get("id") if isinstance(raw, dict) else None
    if not isinstance(id_, (int, str)) or not isinstance(raw.get("type"), str):
        raise GraphError(f"{file}: a node without id or type: {shown(raw, 60)}", "save it from ComfyUI again")
    title, mode = raw.get("title"), raw.get("mode")
    return Part(
        id=str(id_),
        type=raw["type"],
        title=title if isinstance(title, str) and title else raw["type"],
        mode=mode if isinstance(mode, int) else 0,
        sockets=tuple(_socket(item) for item in _list(raw, "inputs")),
        outputs=tuple(_text(item, "type") for item in _list(raw, "outputs")),
        values=raw.get("widgets_values"),
    )


def _socket(raw: Any) -> Socket:
    link = raw.get("link") if isinstance(raw, dict) else None
    widget = isinstance(raw, dict) and isinstance(raw.get("widget"), dict)
    return Socket(_text(raw, "name"), _text(raw, "type"), link if isinstance(link, int) else None, widget)


def _wire(raw: Any) -> tuple[int, Wire] | None:
    """Read a link in either of its two spellings: a list, or (in subgraphs) a table."""
    if isinstance(raw, dict):
        raw = [raw.get(key) for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot")]
    if not isinstance(raw, list) or len(raw) < 5:
        return None
    id_, source, source_slot, target, target_slot = raw[:5]
    if not (isinstance(source, (int, str)) and isinstance(target, (int, str))):
        return None
    if not all(isinstance(number, int) for number in (id_, source_slot, target_slot)):
        return None
    return id_, Wire(str(source), source_slot, str(target), target_slot)


def _list(raw: Any, key: str) -> list[Any]:
    found = raw.get(key) if isinstance(raw, dict) else None
    return found if isinstance(found, list) else []


def _text(raw: Any, key: str) -> str:
    """Give a string; types are sometimes a number (0: anything) in old files."""
    found = raw.get(key) if isinstance(raw, dict) else None
    return found if isinstance(found, str) else "*"
