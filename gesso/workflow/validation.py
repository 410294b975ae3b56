"""Whether ComfyUI would accept each node: class, inputs, types of links, values; as its validate_prompt does."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from gesso.workflow.findings import shown
from gesso.workflow.graph import Graph, Link, Node, finding_at, place
from gesso.workflow.rules import rule_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gesso.workflow.findings import Finding
    from gesso.workflow.object_info import Classes, Definition, Field

_ANY = {"*", "COMFY_MATCHTYPE_V3"}


def problems(graph: Graph, classes: Classes, live: set[str]) -> Iterator[Finding]:
    """Give what ComfyUI would refuse. A class must be known on every node, the rest counts where a node runs."""
    for node in graph.nodes.values():
        definition = classes.get(node.type)
        if definition is None:
            near = difflib.get_close_matches(node.type, list(classes), 1, 0.8)
            yield finding_at(graph, node, "class-missing", "", f"ComfyUI has no class {shown(node.type)}",
                           near[0] if near else "a class that ComfyUI or one of the node packs has")  # fmt: skip
        elif node.id in live:
            yield from _missing(graph, node, definition, classes)
            for name, value in node.inputs.items():
                yield from _input(graph, node, definition.field(name), name, value, classes)


def _missing(graph: Graph, node: Node, definition: Definition, classes: Classes) -> Iterator[Finding]:
    if node.ordered:
        return  # values whose names could not be told: some of them are for these inputs
    for field in definition.inputs.values():
        drawn = field.is_widget or (field.type not in classes.output_types and field.type not in _ANY)
        if not field.required or field.grows or field.name in node.inputs or (drawn and graph.format == "editor"):
            continue  # the editor fills in what it draws itself
        yield finding_at(graph, node, "input-missing", field.name, "not connected", field.type)


def _input(
    graph: Graph, node: Node, field: Field | None, name: str, value: object, classes: Classes
) -> Iterator[Finding]:
    if field is None:
        if graph.format == "api" or isinstance(value, Link):
            yield finding_at(graph, node, "input-unknown", name, f"{shown(node.type)} has no such input", "left out")
    elif isinstance(value, Link):
        yield from _link(graph, node, field, name, value, classes)
    elif not field.grows:
        yield from _value(graph, node, field, value, classes)


def _link(graph: Graph, node: Node, field: Field, name: str, link: Link, classes: Classes) -> Iterator[Finding]:
    source = graph.nodes.get(link.node)
    if source is None:
        yield finding_at(graph, node, "input-missing", name, f"node {shown(link.node, 40)} is not there", field.type)
        return
    definition = classes.get(source.type)
    if definition is None:
        return  # reported where it stands
    if not 0 <= link.slot < len(definition.outputs):
        yield finding_at(graph, node, "input-type", name,
                       f"{place(source)} has no output {link.slot}", field.type)  # fmt: skip
        return
    given = definition.outputs[link.slot]
    if not _fits(given, field):
        yield finding_at(graph, node, "input-type", name,
                       f"{given} from {place(source)}", field.type)  # fmt: skip


def _fits(given: str, field: Field) -> bool:
    """Compare types as ComfyUI does: a type may be several with commas between, `*` fits all."""
    if given in _ANY or field.type in _ANY or field.grows:
        return True
    wanted = set(field.type.split(","))
    return bool(set(given.split(",")) & wanted) or "*" in wanted


def _value(graph: Graph, node: Node, field: Field, value: object, classes: Classes) -> Iterator[Finding]:
    if not field.is_widget:
        drawn = isinstance(value, dict) or field.type not in classes.output_types or field.type in _ANY
        if field.required and not drawn:
            yield finding_at(graph, node, "input-missing", field.name, f"{shown(value, 60)}, no link", field.type)
    elif field.folders or _is_file(node, field.name):
        return  # compared with the manifest (locked.py): a live list lacks what is still being fetched
    elif field.options:  # none recorded: what lay in that server's input folder
        if value not in field.options and not isinstance(value, list):
            listed = ", ".join(shown(option, 30) for option in field.options[:8])
            yield finding_at(graph, node, "input-value", field.name, shown(value, 60),
                           f"one of {listed}{', …' * (len(field.options) > 8)}")  # fmt: skip
    elif field.type in {"INT", "FLOAT"}:
        yield from _number(graph, node, field, value)


def _is_file(node: Node, name: str) -> bool:
    rule = rule_of(node.type)
    return rule is not None and any(take.name == name for take in rule.files)


def _number(graph: Graph, node: Node, field: Field, value: object) -> Iterator[Finding]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        yield finding_at(graph, node, "input-value", field.name, shown(value, 60), f"a number ({field.type})")
    elif (field.low is not None and value < field.low) or (field.high is not None and value > field.high):
        should = f"from {field.low} to {field.high}"
        yield finding_at(graph, node, "input-value", field.name, shown(value, 60), should)
