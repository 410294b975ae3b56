"""Check whether ComfyUI would accept each node, as its validate_prompt does: class, inputs, link types, values."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from gesso.workflow.findings import printable
from gesso.workflow.graph import Graph, Link, Node, finding_at, node_label
from gesso.workflow.rules import rule_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gesso.workflow.findings import Finding
    from gesso.workflow.object_info import Definition, Field, NodeClasses

_ANY = {"*", "COMFY_MATCHTYPE_V3"}


def problems(graph: Graph, classes: NodeClasses, live: set[str]) -> Iterator[Finding]:
    """Yield what ComfyUI would refuse. Every node's class must be known; the rest is checked on live nodes only."""
    for node in graph.nodes.values():
        definition = classes.get(node.type)
        if definition is None:
            near = difflib.get_close_matches(node.type, list(classes), 1, 0.8)
            yield finding_at(graph, node, "class-missing", "", f"ComfyUI has no class {printable(node.type)}",
                           near[0] if near else "a class that ComfyUI or one of the node packs has")  # fmt: skip
        elif node.id in live:
            yield from _missing(graph, node, definition, classes)
            for name, value in node.inputs.items():
                yield from _input(graph, node, definition.field(name), name, value, classes)


def _missing(graph: Graph, node: Node, definition: Definition, classes: NodeClasses) -> Iterator[Finding]:
    if node.ordered:
        return  # unnamed values: some of them belong to these inputs
    for field in definition.inputs.values():
        editor_only = field.is_widget or (field.type not in classes.output_types and field.type not in _ANY)
        if (
            not field.required
            or field.is_group
            or field.name in node.inputs
            or (editor_only and graph.format == "editor")
        ):
            continue  # the editor fills in its own widgets
        yield finding_at(graph, node, "input-missing", field.name, "not connected", field.type)


def _input(
    graph: Graph, node: Node, field: Field | None, name: str, value: object, classes: NodeClasses
) -> Iterator[Finding]:
    if field is None:
        if graph.format == "api" or isinstance(value, Link):
            yield finding_at(
                graph, node, "input-unknown", name, f"{printable(node.type)} has no such input", "left out"
            )
    elif isinstance(value, Link):
        yield from _link(graph, node, field, name, value, classes)
    elif not field.is_group:
        yield from _value(graph, node, field, value, classes)


def _link(graph: Graph, node: Node, field: Field, name: str, link: Link, classes: NodeClasses) -> Iterator[Finding]:
    source = graph.nodes.get(link.node)
    if source is None:
        yield finding_at(
            graph, node, "input-missing", name, f"node {printable(link.node, 40)} does not exist", field.type
        )
        return
    definition = classes.get(source.type)
    if definition is None:
        return  # reported at that node
    if not 0 <= link.slot < len(definition.outputs):
        yield finding_at(graph, node, "input-type", name,
                       f"{node_label(source)} has no output {link.slot}", field.type)  # fmt: skip
        return
    output_type = definition.outputs[link.slot]
    if not _fits(output_type, field):
        yield finding_at(graph, node, "input-type", name,
                       f"{output_type} from {node_label(source)}", field.type)  # fmt: skip


def _fits(output_type: str, field: Field) -> bool:
    """Compare types as ComfyUI does: a type may be a comma-separated list, `*` fits all."""
    if output_type in _ANY or field.type in _ANY or field.is_group:
        return True
    accepted = set(field.type.split(","))
    return bool(set(output_type.split(",")) & accepted) or "*" in accepted


def _value(graph: Graph, node: Node, field: Field, value: object, classes: NodeClasses) -> Iterator[Finding]:
    if not field.is_widget:
        editor_only = isinstance(value, dict) or field.type not in classes.output_types or field.type in _ANY
        if field.required and not editor_only:
            yield finding_at(graph, node, "input-missing", field.name, f"{printable(value, 60)}, no link", field.type)
    elif field.folders or _is_file(node, field.name):
        return  # checked against the manifest (policy.py): a live list lacks files that are still being fetched
    elif field.options:  # empty in recordings: the files in that server's input folder
        if value not in field.options and not isinstance(value, list):
            listed = ", ".join(printable(option, 30) for option in field.options[:8])
            yield finding_at(graph, node, "input-value", field.name, printable(value, 60),
                           f"one of {listed}{', …' * (len(field.options) > 8)}")  # fmt: skip
    elif field.type in {"INT", "FLOAT"}:
        yield from _number(graph, node, field, value)


def _is_file(node: Node, name: str) -> bool:
    rule = rule_of(node.type)
    return rule is not None and any(item.name == name for item in rule.files)


def _number(graph: Graph, node: Node, field: Field, value: object) -> Iterator[Finding]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        yield finding_at(graph, node, "input-value", field.name, printable(value, 60), f"a number ({field.type})")
    elif (field.low is not None and value < field.low) or (field.high is not None and value > field.high):
        should = f"from {field.low} to {field.high}"
        yield finding_at(graph, node, "input-value", field.name, printable(value, 60), should)
