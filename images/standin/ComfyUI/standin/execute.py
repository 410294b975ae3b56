"""Run a graph without computing anything: every node in order, ComfyUI's messages, placeholder images."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from .job import Clients, Job
from .registry import NODE_CLASS_MAPPINGS, is_output


class Run:
    def __init__(self, clients: Clients, job: Job) -> None:
        self.clients = clients
        self.job = job
        self.interrupted = False
        self._client = job.extra.get("client_id")
        self._messages: list[list[Any]] = []
        self._progress: dict[str, dict[str, Any]] = {}
        self._ui: dict[str, dict[str, Any]] = {}

    async def execute(self) -> dict[str, Any]:
        """Run every node, send the messages and return the history entry."""
        await self._record("execution_start", {})
        await self._record("execution_cached", {"nodes": []})
        done: list[str] = []
        for node in order(self.job.prompt, self.job.outputs):
            if self.interrupted:
                await self._record("execution_interrupted", self._position(node, done), everyone=True)
                return self._entry("error")
            try:
                await self._node(node)
            except Exception as error:  # noqa: BLE001  a node's failure belongs to its graph
                await self._record("execution_error", {**self._position(node, done), **_describe(error)})
                return self._entry("error")
            done.append(node)
            await asyncio.sleep(0)  # let an /interrupt request be handled between two nodes
        await self._record("execution_success", {})
        return self._entry("success")

    async def _node(self, node: str) -> None:
        ident = {"node": node, "display_node": node, "prompt_id": self.job.id}
        self.clients.last_node_id = node
        await self._step(node, 0.0, "running")
        await self._send("executing", ident)
        kind = NODE_CLASS_MAPPINGS[self.job.prompt[node]["class_type"]]
        if behaviour := getattr(kind, "standin_execute", None):
            ui = behaviour(self.job.prompt[node]["inputs"])
            # Images are sent before the message that announces them, as by the real nodes.
            for event, data in ui.pop("_binary", ()):
                await self.clients.send_bytes(event, data, self._client)
            self._ui[node] = ui
            await self._send("executed", {**ident, "output": ui})
        elif is_output(kind):
            self._ui[node] = {}
        await self._step(node, 1.0, "finished")

    async def _step(self, node: str, value: float, state: str) -> None:
        self._progress[node] = {
            "value": value, "max": 1.0, "state": state, "node_id": node, "prompt_id": self.job.id,
            "display_node_id": node, "parent_node_id": None, "real_node_id": node,
        }  # fmt: skip
        await self._send("progress_state", {"prompt_id": self.job.id, "nodes": dict(self._progress)})

    async def _send(self, event: str, data: dict[str, Any]) -> None:
        if self._client is not None:
            await self.clients.send_json(event, data, self._client)

    async def _record(self, event: str, data: dict[str, Any], *, everyone: bool = False) -> None:
        """Send a message that the history keeps too."""
        data = {"prompt_id": self.job.id, **data, "timestamp": int(time.time() * 1000)}
        self._messages.append([event, data])
        if everyone or self._client is not None:
            await self.clients.send_json(event, data, self._client)

    def _position(self, node: str, done: list[str]) -> dict[str, Any]:
        return {"node_id": node, "node_type": self.job.prompt[node]["class_type"], "executed": list(done)}

    def _entry(self, status: str) -> dict[str, Any]:
        meta = {n: {"node_id": n, "display_node": n, "parent_node": None, "real_node_id": n} for n in self._ui}
        return {
            "prompt": self.job.row(),
            "outputs": self._ui,
            "status": {"status_str": status, "completed": status == "success", "messages": self._messages},
            "meta": meta,
        }


def order(prompt: dict[str, Any], outputs: list[str]) -> list[str]:
    """Return the nodes that the outputs need in topological order; validation has rejected cycles."""
    done: dict[str, None] = {}
    stack = [(o, False) for o in reversed(outputs)]
    while stack:
        node, ready = stack.pop()
        if ready:
            done[node] = None
        elif node not in done:
            stack.append((node, True))
            links = [v[0] for v in prompt[node]["inputs"].values() if is_link(v) and v[0] not in done]
            stack.extend((link, False) for link in reversed(links))
    return list(done)


def is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _describe(error: Exception) -> dict[str, Any]:
    return {
        "exception_message": f"{error}\n",
        "exception_type": type(error).__qualname__,
        "traceback": [],
        "current_inputs": {},
        "current_outputs": [],
    }
