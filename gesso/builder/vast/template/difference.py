"""What Vast.ai has beside what it should have, field by field, and in words. Pure."""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXTS = ("readme", "onstart")
_WITHHELD = ("docker_login_repo", "docker_login_user", "docker_login_pass")  # a service may mask or leave out these
_MASK = re.compile(r"\*+\Z")
_SHOWN = 100  # characters of a value


def differing(has: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Give each field that is other than wanted: what it has, and what it should have."""
    found = {}
    for name, value in wanted.items():
        if name == "tag":
            continue  # it is part of `image`
        was = _reference(has) if name == "image" else has.get(name)
        if _plain(name, was) != _plain(name, value):
            found[name] = (was, value)
    return found


def _reference(has: Mapping[str, Any]) -> Any:
    """Give image and tag as they are put together: a service may have split them at the last colon."""
    return f"{has.get('image')}:{has['tag']}" if has.get("tag") else has.get("image")


def _plain(name: str, value: Any) -> Any:
    """Give a value so that only what matters is compared: JSON may come as text, and an empty text as null."""
    if name == "extra_filters" and isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    if name in _WITHHELD and isinstance(value, str) and _MASK.match(value):
        return ""
    if name in _TEXTS and isinstance(value, str):
        return "\n".join(line.rstrip() for line in value.strip().splitlines())
    return "" if value is None else value


def told(name: str, has: Any, wanted: Any) -> list[str]:
    """Give a difference as lines: texts as a unified difference, conditions one by one, else before and after."""
    if name in _TEXTS and isinstance(has, str) and isinstance(wanted, str):
        lines = difflib.unified_diff(has.splitlines(), wanted.splitlines(), lineterm="", n=1)
        return [f"{name}:", *(f"  {line}" for line in lines if not line.startswith(("---", "+++")))]
    before, after = _plain(name, has), _plain(name, wanted)
    if isinstance(before, dict) and isinstance(after, dict):
        names = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        return [f"{name}.{key}: {_short(before.get(key))} -> {_short(after.get(key))}" for key in names]
    return [f"{name}: {_short(has)} -> {_short(wanted)}"]


def _short(value: Any) -> str:
    text = "nothing" if value in (None, "") else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
