"""Compare a template at Vast.ai with the expected one, field by field, and describe the difference. Pure."""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXTS = ("readme", "onstart")
_MASKED = ("docker_login_repo", "docker_login_user", "docker_login_pass")  # a service may mask or omit these
_MASK = re.compile(r"\*+\Z")
_MAX_SHOWN = 100  # characters of a value


def differing_fields(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return each field that differs: its actual and its expected value."""
    found = {}
    for name, value in expected.items():
        if name == "tag":
            continue  # it is part of `image`
        current = _image_of(actual) if name == "image" else actual.get(name)
        if _normalized(name, current) != _normalized(name, value):
            found[name] = (current, value)
    return found


def _image_of(fields: Mapping[str, Any]) -> Any:
    """Return image and tag joined: a service may have split them at the last colon."""
    return f"{fields.get('image')}:{fields['tag']}" if fields.get("tag") else fields.get("image")


def _normalized(name: str, value: Any) -> Any:
    """Normalize a value for comparison: JSON may come as text, and an empty text as null."""
    if name == "extra_filters" and isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    if name in _MASKED and isinstance(value, str) and _MASK.match(value):
        return ""
    if name in _TEXTS and isinstance(value, str):
        return "\n".join(line.rstrip() for line in value.strip().splitlines())
    return "" if value is None else value


def change_lines(name: str, actual: Any, expected: Any) -> list[str]:
    """Return a difference as lines: texts as a unified diff, conditions one by one, else before and after."""
    if name in _TEXTS and isinstance(actual, str) and isinstance(expected, str):
        lines = difflib.unified_diff(actual.splitlines(), expected.splitlines(), lineterm="", n=1)
        return [f"{name}:", *(f"  {line}" for line in lines if not line.startswith(("---", "+++")))]
    before, after = _normalized(name, actual), _normalized(name, expected)
    if isinstance(before, dict) and isinstance(after, dict):
        names = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        return [f"{name}.{key}: {_shortened(before.get(key))} -> {_shortened(after.get(key))}" for key in names]
    return [f"{name}: {_shortened(actual)} -> {_shortened(expected)}"]


def _shortened(value: Any) -> str:
    text = "nothing" if value in (None, "") else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}... ({len(text)} characters)"
