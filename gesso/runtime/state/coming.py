"""What Krita shows on connecting before the required models are verified: one short line. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIMIT = 120  # characters: Krita shows one line


def models_coming(status: Mapping[str, Any]) -> str:
    """Return why the required models cannot be used yet; empty if all are verified."""
    required = [model for model in status["models"] if model["tier"] == "required"]
    pending = [model for model in required if model["stage"] != "verified"]
    if not pending:
        return ""
    for model in pending:
        if model["trouble"]:
            return _short(f"Models are missing: {model['name']}: {model['trouble']['why']}")
    if all(model["stage"] == "checking" for model in pending):
        return "Models are being checked; try again in a minute"
    done, size = sum(model["done"] for model in required), sum(model["size"] or 0 for model in required)
    share = f": {min(99, 100 * done // size)} %" if size else ""
    return f"Models are coming{share}{_time_left(pending)}"


def _time_left(pending: Sequence[Mapping[str, Any]]) -> str:
    rate = sum(model["rate"] for model in pending)
    if not rate:
        return ""
    left = sum(max(0, (model["size"] or 0) - model["done"]) for model in pending) / rate
    minutes = max(1, round(left / 60))
    if minutes < 90:
        return f", about {minutes} minute{'s' * (minutes != 1)}"
    hours = round(minutes / 60)
    return f", about {hours} hour{'s' * (hours != 1)}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LIMIT else f"{line[: LIMIT - 1]}…"
