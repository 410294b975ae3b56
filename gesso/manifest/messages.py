"""Messages about an invalid manifest, for its author."""

from __future__ import annotations

import difflib
import json
import re
import typing
from typing import Any

from pydantic import BaseModel

from gesso.manifest.schema import (
    BY_THE_LOCK,
    CLASS_ID,
    CUDA,
    DISTRIBUTION,
    FOLDER,
    IMAGE,
    NAMED_LISTS,
    PACKAGE,
    REF,
    REQUIREMENT,
    SHA256,
    SLUG,
    Manifest,
)
from gesso.manifest.strict import HiddenValueError
from gesso.manifest.workflows import WORKFLOW
from gesso.manifest.yamlsource import Listing, Mapping, Problem, Scalar, Tree, locate, name_of

if typing.TYPE_CHECKING:
    from collections.abc import Iterable

# What each pattern allows.
PATTERN_DESCRIPTIONS = {
    SHA256: "64 lowercase hex digits",
    SLUG: "at most 40 lowercase letters, digits and -, starting with a letter",
    REQUIREMENT: "one line such as torch==2.13.0",
    DISTRIBUTION: "the name of a Python distribution, such as opencv-python",
    PACKAGE: "the name of a Debian package, such as libegl1",
    CLASS_ID: "at most 120 letters, digits, spaces and _ . + ( ) / | -",
    IMAGE: "name:tag, such as debian:trixie-slim",
    REF: "a tag, a branch or a commit: letters, digits and . _ / + -",
    FOLDER: "at most 80 letters, digits and . _ -, starting with a letter or digit",
    CUDA: "a version such as 13.0",
    WORKFLOW: "at most 100 lowercase letters, digits and _",
}


def innermost_errors(errors: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Drop errors that a nested error causes: pydantic calls a list empty when its items failed."""
    for error in errors:
        path = error["loc"]
        nested = any(len(o["loc"]) > len(path) and o["loc"][: len(path)] == path for o in errors)
        if not (error["type"] == "too_short" and nested):
            yield error


def dotted_path(tree: Tree, path: tuple[str | int, ...]) -> str:
    """Format a path for messages: list items by their name if they have one, else by index."""
    text = ""
    here: Tree | None = tree
    for step in path:
        if isinstance(here, Scalar):  # a short form, such as a workflow's name in the place of its mapping: no keys
            break
        if isinstance(here, Mapping):
            here = here.items.get(str(step))
        elif isinstance(here, Listing) and isinstance(step, int) and step < len(here.items):
            here = here.items[step]
        else:
            here = None
        if isinstance(step, int):
            text += f"[{(name_of(here) if here else None) or step}]"
        else:
            text += f"{'.' * bool(text)}{step}"
    return text


def to_problem(tree: Mapping, error: dict[str, Any]) -> Problem:
    """Convert one of pydantic's errors to a problem with its location."""
    path = tuple(step for step in error["loc"] if step != "[key]")  # pydantic's mark for an invalid key
    return Problem(locate(tree, path), dotted_path(tree, path), _message(error, path))


def _message(error: dict[str, Any], path: tuple[str | int, ...]) -> str:
    given, context = error.get("input"), error.get("ctx", {})
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind == "string_pattern_mismatch":
        return f"`{shorten(given)}` is not allowed; must be {PATTERN_DESCRIPTIONS[context['pattern']]}"
    if kind == "value_error":
        hidden = given is None or isinstance(given, dict | list) or isinstance(context["error"], HiddenValueError)
        shown = "" if hidden else f"`{shorten(given)}` "
        return f"{shown}{context['error']}"
    expected = str(context.get("expected", "")).replace("'", "")
    simple = {
        "missing": "missing; it is required",
        "literal_error": f"`{shorten(given)}` is not allowed; allowed: {expected}",
        "bool_type": f"`{shorten(given)}` is not allowed; allowed: true, false",
        "int_type": f"must be a whole number without quotes, not {_type_name(given)}",
        "greater_than": f"`{shorten(given)}` is not allowed; must be more than {context.get('gt')}",
        "string_type": f"must be text, not {_type_name(given)}{'; put it in quotes' * isinstance(given, int)}",
        "float_type": f"must be a number, not {_type_name(given)}",
        "float_parsing": f"must be a number, not {_type_name(given)}",
        "tuple_type": f"must be a list, not {_type_name(given)}",
        "dict_type": f"must be a mapping of keys to values, not {_type_name(given)}",
        "model_type": f"must be a mapping of keys to values, not {_type_name(given)}",
        "model_attributes_type": f"must be a mapping of keys to values, not {_type_name(given)}",
        "too_short": "must not be empty",
        "string_too_short": f"too short; must have at least {context.get('min_length')} characters",
        "string_too_long": f"too long; must have at most {context.get('max_length')} characters",
    }
    return simple.get(kind, str(error["msg"]))


def _unknown_key(path: tuple[str | int, ...]) -> str:
    key = str(path[-1])
    merging = ["extends"] if len(path) == 1 else ["remove"] if len(path) == 3 and path[0] in NAMED_LISTS else []
    allowed = sorted({*_fields_at(Manifest, path[:-1]), *merging} - {*BY_THE_LOCK})
    close = difflib.get_close_matches(key, allowed, 1)
    hint = f"did you mean `{close[0]}`? " if close else ""
    return f"unknown key; {hint}allowed: {', '.join(allowed)}"


def _fields_at(model: type[BaseModel], path: tuple[str | int, ...]) -> Iterable[str]:
    """Return the keys that the schema allows at `path`."""
    for step in path:
        if isinstance(step, int):
            continue
        field = model.model_fields.get(step)
        if field is None:  # a key of the author's choice, in a mapping to models
            continue
        inner = [a for a in _types_in(field.annotation) if issubclass(a, BaseModel)]
        if not inner:
            return ()
        model = inner[0]
    return [field.alias or name for name, field in model.model_fields.items()]


def _types_in(annotation: Any) -> Iterable[type]:
    if isinstance(annotation, type):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _types_in(argument)


def shorten(value: object) -> str:
    """Format a value for a message: at most 60 characters, without a URL's credentials."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else str(value)
    text = re.sub(r"//[^/\s]*@", "//...@", text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _type_name(value: object) -> str:
    names = {
        "dict": "a mapping",
        "list": "a list",
        "int": "a number",
        "bool": "true/false",
        "NoneType": "null",
    }
    return names.get(type(value).__name__, "text")
