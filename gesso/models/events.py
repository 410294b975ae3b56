"""Events of checking and fetching models, as data: progress bars, log lines and the status page are made from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal[
    "planned", "waiting", "checking", "quarantined", "started", "progress", "retrying", "switched", "done", "there",
    "skipped", "failed",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event of one model. Sizes in bytes; `source` is a host, `message` is for people.

    `fault` is the kind of a failure (models.faults), for programs.
    """

    kind: Kind
    name: str
    tier: str = "required"
    size: int | None = None
    done: int = 0  # bytes received
    connections: int = 0
    source: str = ""
    message: str = ""
    fault: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the event without empty fields."""
        return {key: value for key, value in asdict(self).items() if value not in {None, ""}}
