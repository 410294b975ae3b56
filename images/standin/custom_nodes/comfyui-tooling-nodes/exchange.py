"""Publish workflows to subscribers: each receives every published one, also those from before it subscribed."""

from __future__ import annotations

from typing import Any

from server import PromptServer


class WorkflowExchange:
    def __init__(self, server: PromptServer) -> None:
        self._server = server
        self._published: dict[str, tuple[str, dict[str, Any]]] = {}
        self._subscribers: list[str] = []

    async def publish(self, name: str, publisher: str, workflow: dict[str, Any]) -> None:
        """Publish a workflow; it replaces the publisher's previous one."""
        for client in self._subscribers:
            await self._notify(client, publisher, name, workflow)
        self._published[publisher] = (name, workflow)

    async def subscribe(self, client: str) -> None:
        if client in self._subscribers:
            raise KeyError("Already subscribed")
        self._subscribers.append(client)
        for publisher, (name, workflow) in self._published.items():
            await self._notify(client, publisher, name, workflow)

    async def unsubscribe(self, client: str) -> None:
        if client not in self._subscribers:
            raise KeyError(f"No subscriber found with id {client}")
        self._subscribers.remove(client)

    async def _notify(self, client: str, publisher: str, name: str, workflow: dict[str, Any]) -> None:
        data = {"publisher": {"name": name, "id": publisher}, "workflow": workflow}
        await self._server.send_json("etn_workflow_published", data, client)
