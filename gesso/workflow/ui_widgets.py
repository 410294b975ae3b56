"""Assign the unnamed widget values of the editor's format to a node's inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gesso.workflow.object_info import Definition, Field
    from gesso.workflow.ui_format import UiNode

AFTER_GENERATE = ("fixed", "increment", "decrement", "randomize", "increment-wrap")  # no set: a value may be a list
_SEEDS = ("seed", "noise_seed")


def named_values(node: UiNode, definition: Definition | None) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Return the values by name, or the values in order where their names cannot be determined."""
    if isinstance(node.values, dict):
        return {key: value for key, value in node.values.items() if isinstance(key, str)}, ()
    if not isinstance(node.values, list) or not node.values:
        return {}, ()
    if definition is not None and (named := _by_definition(node.values, definition)) is not None:
        return named, ()
    names = [item.name for item in node.inputs if item.widget]
    if (named := _by_inputs(node.values, names)) is not None:
        return named, ()
    return {}, tuple(node.values)


def _by_definition(values: list[Any], definition: Definition) -> dict[str, Any] | None:
    """Assign the values in the order of the class's inputs, as the editor does; missing ones keep their defaults.

    None if there are more values than inputs: some then belong to fields that only the editor's own code knows.
    """
    named: dict[str, Any] = {}
    at = 0
    for field in _fields(definition.inputs.values(), named):
        if at >= len(values):
            break
        named[field.name] = values[at]
        at += 1
        if at < len(values) and (field.control or field.name in _SEEDS) and values[at] in AFTER_GENERATE:
            at += 1
        if field.uploads and at < len(values) and values[at] in ("image", "audio"):
            at += 1  # an upload button occupies a value too
    return named if at == len(values) else None


def _fields(fields: Any, named: dict[str, Any]) -> Iterator[Field]:
    """Yield the inputs that have a widget; the inputs of a chosen option follow it directly."""
    for field in fields:
        if field.is_widget:
            yield field
        if field.choices:
            yield from _fields(field.choices.get(_choice(named.get(field.name)), ()), named)


def _choice(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _by_inputs(values: list[Any], names: list[str]) -> dict[str, Any] | None:
    """Assign the values by the node's own list of inputs with a widget, which newer editors keep complete."""
    if not names:
        return None
    named: dict[str, Any] = {}
    at = 0
    for name in names:
        if at == len(values):
            return None
        named[name] = values[at]
        at += 1
        if name in _SEEDS and at < len(values) and isinstance(values[at], str) and values[at] in AFTER_GENERATE:
            at += 1
    return named if at == len(values) else None
