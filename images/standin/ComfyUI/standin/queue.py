"""The prompt queue: run prompts one at a time and keep their history."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

from .execute import Run
from .job import Clients, Job


class Queue:
    def __init__(self, clients: Clients) -> None:
        self._clients = clients
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
        await self._send_status()

    async def drop(self, matches: Callable[[Job], bool]) -> None:
        self.pending = [job for job in self.pending if not matches(job)]
        await self._send_status()

    def interrupt(self, prompt_id: str | None) -> None:
        if self.running and prompt_id in (None, self.running.job.id):
            self.running.interrupted = True

    def recent(self, count: int | None, offset: int) -> dict[str, Any]:
        rows = list(self.history.items())
        if offset < 0:
            offset = max(0, len(rows) - count) if count is not None else 0
        return copy.deepcopy(dict(rows[offset:][:count]))

    async def work(self) -> None:
        """Run pending prompts until cancelled: there is only one worker."""
        while True:
            await self._wakeup.wait()
            while self.pending:
                await self._run(self.pending.pop(0))
            self._wakeup.clear()

    async def _run(self, job: Job) -> None:
        clients, client = self._clients, job.extra.get("client_id")
        self.running = Run(clients, job)
        clients.client_id = client
        await self._send_status()
        self.history[job.id] = await self.running.execute()
        self.running = None
        clients.last_node_id = None
        await self._send_status()
        if client is not None:
            await clients.send_json("executing", {"node": None, "prompt_id": job.id}, client)

    async def _send_status(self) -> None:
        await self._clients.send_json("status", {"status": self.info()})
