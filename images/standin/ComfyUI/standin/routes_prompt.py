"""Routes that submit prompts and show the queue and the history."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .job import Job
from .validate import error, validate

if TYPE_CHECKING:
    from .prompt_server import PromptServer


def add(server: PromptServer) -> None:
    routes, queue = server.routes, server.queue

    @routes.get("/prompt")
    async def remaining(_: web.Request) -> web.Response:
        return web.json_response(queue.info())

    @routes.post("/prompt")
    async def submit(request: web.Request) -> web.Response:
        body = await request.json()
        number = queue.next_number(body)
        if "prompt" not in body:
            return _reject(error("no_prompt", "No prompt provided", "No prompt provided"))
        prompt_id = body.get("prompt_id") or str(uuid.uuid4())
        if not _is_uuid(prompt_id):
            hint = (
                "prompt_id must be a UUID string in canonical lowercase hyphenated form; "
                "omit it to let the server generate one"
            )
            return _reject(error("invalid_prompt_id", "prompt_id must be a valid UUID", hint))
        invalid, outputs, node_errors = validate(body["prompt"])
        if invalid is not None:
            return _reject(invalid, node_errors)
        extra = dict(body.get("extra_data") or {})
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        extra["create_time"] = int(time.time() * 1000)
        await queue.put(Job(number=number, id=prompt_id, prompt=body["prompt"], extra=extra, outputs=outputs))
        return web.json_response({"prompt_id": prompt_id, "number": number, "node_errors": node_errors})

    @routes.get("/queue")
    async def show_queue(_: web.Request) -> web.Response:
        running = [queue.running.job.row()] if queue.running else []
        return web.json_response({"queue_running": running, "queue_pending": [j.row() for j in queue.pending]})

    @routes.post("/queue")
    async def change_queue(request: web.Request) -> web.Response:
        body = await request.json()
        unwanted = set(body.get("delete", ()))
        await queue.drop(lambda job: bool(body.get("clear")) or job.id in unwanted)
        return web.Response()

    @routes.get("/history")
    async def history(request: web.Request) -> web.Response:
        count = request.query.get("max_items")
        offset = int(request.query.get("offset", "-1"))
        return web.json_response(queue.recent(int(count) if count else None, offset))

    @routes.get("/history/{prompt_id}")
    async def history_of(request: web.Request) -> web.Response:
        prompt_id = request.match_info["prompt_id"]
        return web.json_response({prompt_id: queue.history[prompt_id]} if prompt_id in queue.history else {})

    @routes.post("/history")
    async def change_history(request: web.Request) -> web.Response:
        body = await request.json()
        for prompt_id in list(queue.history) if body.get("clear") else body.get("delete", ()):
            queue.history.pop(prompt_id, None)
        return web.Response()

    @routes.post("/interrupt")
    async def interrupt(request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        queue.interrupt(body.get("prompt_id"))
        return web.Response()

    @routes.post("/free")
    async def free(request: web.Request) -> web.Response:
        await request.json()  # there is no memory to free, but a malformed request stays an error
        return web.Response()


def _reject(invalid: dict[str, Any], node_errors: dict[str, Any] | None = None) -> web.Response:
    return web.json_response({"error": invalid, "node_errors": node_errors or {}}, status=400)


def _is_uuid(text: Any) -> bool:
    try:
        return isinstance(text, str) and str(uuid.UUID(text)) == text
    except (ValueError, AttributeError, TypeError):
        return False
