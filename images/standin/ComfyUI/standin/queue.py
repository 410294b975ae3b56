"""Prompts wait, run one at a time, and end in the history."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .execute import Run

if TYPE_CHECKING:
    from .prompt_server import PromptServer


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


class Queue:
    def __init__(self, server: PromptServer) -> None:
        self._server = server
        self._counter = 0
        self._wakeup = asyncio.Event()
        self.pending: list[Job] = []
        self.running: Run | None = None
        self.history: dict[str, dict[str, Any]] = {}

    def info(self) -> dict[str, Any]:
        return {"exec_info": {"queue_remaining": len(self.pending) + (self.running is not None)}}

    def next_number(self, body: dict[str, Any]) -> float:
        if "number" in body:
            return float(body["number"])
        number = -self._counter if body.get("front") else self._counter
        self._counter += 1
        return number

    async def put(self, job: Job) -> None:
        self.pending.append(job)
        self.pending.sort(key=lambda j: j.number)
        self._wakeup.set()
        await self._tell()

    async def drop(self, matches: Callable[[Job], bool]) -> None:
        self.pending = [job for job in self.pending if not matches(job)]
        await self._tell()

    def interrupt(self, prompt_id: str | None) -> None:
        if self.running and prompt_id in (None, self.running.job.id):
            self.running.interrupted = True

    def recent(self, count: int | None, offset: int) -> dict[str, Any]:
        rows = list(self.history.items())
        if offset < 0:
            offset = max(0, len(rows) - count) if count is not None else 0
        return copy.deepcopy(dict(rows[offset:][:count]))

    async def work(self) -> None:
        """The one worker; runs as long as the server."""
        while True:
            await self._wakeup.wait()
            while self.pending:
                await self._run(self.pending.pop(0))
            self._wakeup.clear()

    async def _run(self, job: Job) -> None:
        server, client = self._server, job.extra.get("client_id")
        self.running = Run(server, job)
        server.client_id = client
        await self._tell()
        self.history[job.id] = await self.running.execute()
        self.running = None
        server.last_node_id = None
        await self._tell()
        if client is not None:
            await server.send_json("executing", {"node": None, "prompt_id": job.id}, client)

    async def _tell(self) -> None:
        await self._server.send_json("status", {"status": self.info()})
