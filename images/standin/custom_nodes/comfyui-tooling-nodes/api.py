"""The pack's HTTP routes, all under /api/etn."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths
from aiohttp import web

from .exchange import WorkflowExchange
from .images import CACHE
from .modelinfo import inspect

if TYPE_CHECKING:
    from server import PromptServer

UPLOADABLE = re.compile(r"(?!\.)[A-Za-z0-9_\-. ]+\.(?:sft|safetensors)", re.IGNORECASE)


def add(server: PromptServer) -> None:
    routes, exchange = server.routes, WorkflowExchange(server)

    @routes.get("/api/etn/languages")
    async def languages(_: web.Request) -> web.Response:
        return web.json_response([])

    @routes.get("/api/etn/model_info")
    async def checkpoints_info(request: web.Request) -> web.Response:
        return _model_info("checkpoints", request)

    @routes.get("/api/etn/model_info/{folder}")
    async def folder_info(request: web.Request) -> web.Response:
        folder = request.match_info["folder"]
        return _invalid_folder(folder) or _model_info(folder, request)

    @routes.post("/api/etn/workflow/publish")
    async def publish(request: web.Request) -> web.Response:
        return await _exchange(request, exchange.publish, "name", "client_id", "workflow")

    @routes.post("/api/etn/workflow/subscribe")
    async def subscribe(request: web.Request) -> web.Response:
        return await _exchange(request, exchange.subscribe, "client_id")

    @routes.post("/api/etn/workflow/unsubscribe")
    async def unsubscribe(request: web.Request) -> web.Response:
        return await _exchange(request, exchange.unsubscribe, "client_id")

    @routes.get("/api/etn/image/{id}")
    async def get_image(request: web.Request) -> web.Response:
        if (found := CACHE.get(request.match_info["id"])) is None:
            return _error("Image not found", 404)
        return web.Response(body=found[0], content_type=found[1])

    async def put_image(request: web.Request) -> web.Response:
        if (key := request.match_info["id"]) in CACHE:
            await request.release()  # read the body, or the client sees its connection closed
            return web.json_response({"status": "cached"})
        content_type = request.headers.get("Content-Type", "application/octet-stream")
        CACHE.insert(key, await request.content.read(), content_type)
        return web.json_response({"status": "success"}, status=201)

    async def handle_expect(request: web.Request) -> web.Response | None:
        """With "Expect: 100-continue", spare the client an upload of an image that is cached."""
        if request.match_info["id"] in CACHE:
            return web.json_response({"status": "cached"})
        if request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    # Not through `routes`: this route exists only under /api.
    server.app.router.add_route("PUT", "/api/etn/image/{id}", put_image, expect_handler=handle_expect)

    @routes.put("/api/etn/upload/{folder}/{file}")
    async def upload(request: web.Request) -> web.Response:
        folder, name = request.match_info["folder"], request.match_info["file"]
        if invalid := _invalid_folder(folder):
            return invalid
        if not UPLOADABLE.fullmatch(name) or ".." in name or len(name) > 255:
            return _error("Invalid filename", 400)
        if folder_paths.get_full_path(folder, name) is not None:
            return web.json_response({"status": "cached"})
        target = Path(folder_paths.get_folder_paths(folder)[0]) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            async for chunk in request.content.iter_any():
                file.write(chunk)
        return web.json_response({"status": "success"}, status=201)


def _model_info(folder: str, request: web.Request) -> web.Response:
    offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", 1000))
    names = folder_paths.get_filename_list(folder)
    page = names[offset : offset + limit]
    info = {name: inspect(Path(path)) for name in page if (path := folder_paths.get_full_path(folder, name))}
    if "limit" in request.query:
        info["_meta"] = {"offset": offset, "count": len(page), "total": len(names)}
    return web.json_response(info)


def _invalid_folder(folder: str) -> web.Response | None:
    if folder in (known := folder_paths.folder_names_and_paths):
        return None
    return _error(f"Invalid folder path, must be one of {', '.join(known)}", 400)


async def _exchange(request: web.Request, act: Callable[..., Awaitable[None]], *keys: str) -> web.Response:
    try:
        body = await request.json()
        await act(*[body[key] for key in keys])
    except KeyError as error:
        return _error(str(error), 400)
    except ValueError as error:
        return _error(str(error), 500)
    return web.json_response({"status": "success"})


def _error(message: str, status: int) -> web.Response:
    return web.json_response({"error": message}, status=status)
