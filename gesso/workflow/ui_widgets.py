"""Which value of a node's list in the editor's format belongs to which input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gesso.workflow.object_info import Definition, Field
    from gesso.workflow.ui_format import Part

AFTER_GENERATE = ("fixed", "increment", "decrement", "randomize", "increment-wrap")  # no set: a value may be a list
_SEEDS = ("seed", "noise_seed")


def named_values(part: Part, definition: Definition | None) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Give the values by name, and once more in order where their names cannot be told."""
    if isinstance(part.values, dict):
        return {key: value for key, value in part.values.items() if isinstance(key, str)}, ()
    if not isinstance(part.values, list) or not part.values:
        return {}, ()
    if definition is not None and (named := _by_definition(part.values, definition)) is not None:
        return named, ()
    names = [socket.name for socket in part.sockets if socket.widget]
    if (named := _by_sockets(part.values, names)) is not None:
        return named, ()
    return {}, tuple(part.values)


def _by_definition(values: list[Any], definition: Definition) -> dict[str, Any] | None:
    """Deal the values out in the order of the class's inputs, as the editor does; fewer are filled up with defaults.

    None where there are more: then some belong to fields that only the editor's own code knows.
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
            at += 1  # the button for an upload keeps a place too
    return named if at == len(values) else None


def _fields(fields: Any, named: dict[str, Any]) -> Iterator[Field]:
    """Give the inputs that have a value of their own; what a choice brings with it comes right after it."""
    for field in fields:
        if field.is_widget:
            yield field
        if field.choices:
            yield from _fields(field.choices.get(_key(named.get(field.name)), ()), named)


def _key(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _by_sockets(values: list[Any], names: list[str]) -> dict[str, Any] | None:
    """Deal the values out by the node's own list of inputs with a widget, which newer editors keep complete."""
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
