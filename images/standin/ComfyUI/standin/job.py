"""A queued prompt, and the connections to clients that running it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Job:
    number: float
    id: str
    prompt: dict[str, Any]
    extra: dict[str, Any]
    outputs: list[str] = field(default_factory=list)

    def row(self) -> list[Any]:
        """The job as /queue and /history show it."""
        return [self.number, self.id, self.prompt, self.extra, self.outputs]


class Clients(Protocol):
    """What the queue and a run use of `PromptServer`."""

    client_id: str | None
    last_node_id: str | None

    async def send_json(self, event: str, data: Any, sid: str | None = None) -> None: ...
    async def send_bytes(self, event: int, data: bytes, sid: str | None = None) -> None: ...
