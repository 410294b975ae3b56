"""The editor's format, followed as the editor does when it queues: what is muted, bypassed or only drawn is gone.

Subgraphs are laid open: the node 30 inside of node 57 is "57:30", as ComfyUI names it when it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gesso.workflow.findings import shown
from gesso.workflow.graph import MOST_NODES, Graph, GraphError, Link, Node
from gesso.workflow.ui_format import SUBGRAPH_INPUTS, Part, Sheet, Socket, read_sheet
from gesso.workflow.ui_widgets import named_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gesso.workflow.object_info import Classes

DRAWN_ONLY = {"Note", "MarkdownNote"}
REROUTE, PRIMITIVE = "Reroute", "PrimitiveNode"
_DEEPEST = 30
_LONGEST = 10_000  # steps from an input to what feeds it


class _Nothing:
    """Nothing is connected here."""


NOTHING = _Nothing()


@dataclass(frozen=True)
class _Value:
    """What was typed in somewhere else and arrives by a link: a PrimitiveNode, an input of a subgraph."""

    value: Any


@dataclass(frozen=True)
class _Place:
    """A sheet in use: the graph, or the inside of the node `part` of the place `outer`."""

    sheet: Sheet
    prefix: str = ""
    part: Part | None = None
    outer: _Place | None = None
    inner: dict[str, _Place] = field(default_factory=dict, compare=False)


def from_editor(data: dict[str, Any], file: str, classes: Classes) -> Graph:
    """Read the editor's format; `classes` says which value of a node's list belongs to which input.

    Raises GraphError.
    """
    return _Reader(data, file, classes).graph()


class _Reader:
    """Reads one file: its sheets by name, and the places where they are used."""

    def __init__(self, data: dict[str, Any], file: str, classes: Classes) -> None:
        self.file, self.classes = file, classes
        definitions = data.get("definitions")
        subgraphs = definitions.get("subgraphs") if isinstance(definitions, dict) else None
        self.sheets = {
            raw["id"]: read_sheet(raw, file)
            for raw in (subgraphs if isinstance(subgraphs, list) else [])
            if isinstance(raw, dict) and isinstance(raw.get("id"), str)
        }
        self.top = _Place(read_sheet(data, file))
        self.count = 0

    def graph(self) -> Graph:
        """Lay everything open."""
        nodes: dict[str, Node] = {}
        silent: set[str] = set()
        for place in self._places(self.top, 0, silent):
            for part in place.sheet.parts.values():
                name = place.prefix + part.id
                if part.muted or part.bypassed:
                    silent.add(name)
                elif part.type not in {*DRAWN_ONLY, REROUTE, PRIMITIVE} and part.id not in place.inner:
                    nodes[name] = self._node(place, part, name)
        return Graph(self.file, "editor", nodes, frozenset(silent))

    def _places(self, place: _Place, depth: int, silent: set[str]) -> Iterator[_Place]:
        """Open every subgraph that runs."""
        if depth > _DEEPEST:
            raise GraphError(f"{self.file}: subgraphs inside each other without end", "a subgraph cannot hold itself")
        self.count += len(place.sheet.parts)
        if self.count > MOST_NODES:
            raise GraphError(f"{self.file}: more than {MOST_NODES} nodes with its subgraphs laid open", "split it")
        opened = []
        for part in place.sheet.parts.values():
            if part.type in self.sheets and not part.muted and not part.bypassed:
                name = place.prefix + part.id
                place.inner[part.id] = _Place(self.sheets[part.type], f"{name}:", part, place)
                opened.append(place.inner[part.id])
            elif part.type.startswith(("workflow>", "workflow/")):
                raise GraphError(
                    f"{self.file}: node {shown(part.id)} {shown(part.title)!r} is a group node of an old editor",
                    "convert it to a subgraph, or ungroup it, then save again",
                )
        for inner in opened:
            yield from self._places(inner, depth + 1, silent)
        yield place

    def _node(self, place: _Place, part: Part, name: str) -> Node:
        values, ordered = named_values(part, self.classes.get(part.type))
        inputs: dict[str, Any] = dict(values)
        for socket in part.sockets:
            found = self._source(place, socket)
            if isinstance(found, Link):
                inputs[socket.name] = found
            elif isinstance(found, _Value):
                inputs[socket.name] = found.value
            elif socket.link is not None and not socket.widget:
                inputs.pop(socket.name, None)
        return Node(name, part.type, part.title, inputs, ordered)

    def _source(self, place: _Place, socket: Socket) -> Link | _Value | _Nothing:
        """Follow an input back to the node that makes what comes in, or to the value that does."""
        at: _Place = place
        link, type_ = socket.link, socket.type
        for _ in range(_LONGEST):
            wire = at.sheet.wires.get(link) if link is not None else None
            if wire is None:
                return NOTHING
            step: tuple[_Place, int | None] | Link | _Value | _Nothing
            if wire.source == SUBGRAPH_INPUTS and at.outer is not None:
                step = self._outward(at, wire.source_slot)
            else:
                step = self._backward(at, wire.source, wire.source_slot, type_)
            if not isinstance(step, tuple) or isinstance(step, Link):
                return step
            at, link = step
        raise GraphError(f"{self.file}: links that lead in a circle", "save it from ComfyUI again")

    def _outward(self, at: _Place, slot: int) -> tuple[_Place, int | None] | _Value | _Nothing:
        """Leave a subgraph by one of its inputs."""
        part, outer = at.part, at.outer
        assert part is not None
        assert outer is not None
        name = at.sheet.inputs[slot] if 0 <= slot < len(at.sheet.inputs) else None
        socket = next((socket for socket in part.sockets if socket.name == name), None)
        if socket is not None and socket.link is not None:
            return outer, socket.link
        promoted = at.sheet.promoted
        if name is None or name not in promoted:
            return NOTHING
        if isinstance(part.values, list) and len(part.values) == len(promoted):
            return _Value(part.values[list(promoted).index(name)])
        inside, edge = promoted[name]
        source = at.sheet.parts[inside]
        named, _ = named_values(source, self.classes.get(source.type))
        return _Value(named[edge]) if edge in named else NOTHING

    def _backward(
        self, at: _Place, source: str, slot: int, type_: str
    ) -> tuple[_Place, int | None] | Link | _Value | _Nothing:
        """Go from an output to what is behind it."""
        part = at.sheet.parts.get(source)
        if part is None or part.muted or part.type in DRAWN_ONLY:
            return NOTHING
        if part.bypassed:
            return at, _through(part, slot, type_)
        if part.type == REROUTE:
            return at, part.sockets[0].link if part.sockets else None
        if part.type == PRIMITIVE:
            return _Value(part.values[0]) if isinstance(part.values, list) and part.values else NOTHING
        inner = at.inner.get(source)
        return Link(at.prefix + source, slot) if inner is None else self._inward(inner, slot, type_)

    def _inward(self, inner: _Place, slot: int, type_: str) -> tuple[_Place, int | None] | Link | _Value | _Nothing:
        """Enter a subgraph by one of its outputs."""
        wire = (inner.sheet.ends or {}).get(slot)
        if wire is None:
            return NOTHING
        if wire.source == SUBGRAPH_INPUTS:
            return self._outward(inner, wire.source_slot)
        return self._backward(inner, wire.source, wire.source_slot, type_)


def _through(part: Part, slot: int, type_: str) -> int | None:
    """Give the link that a bypassed node hands on: the input at the output's place, else the first of its type."""
    out = part.outputs[slot] if 0 <= slot < len(part.outputs) else type_
    if "*" in {type_, out}:
        if not part.sockets:
            return None
        return part.sockets[slot if 0 <= slot < len(part.sockets) else 0].link
    if 0 <= slot < len(part.sockets) and part.sockets[slot].type in {out, "*"}:
        return part.sockets[slot].link
    return next((socket.link for socket in part.sockets if socket.type == out), None)
