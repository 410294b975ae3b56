"""The web application and its websockets, under the name that node packs use: `PromptServer.instance`."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
import uuid
from typing import Any, ClassVar

from aiohttp import WSMsgType, web

from .cli import Args
from .middleware import chain
from .queue import Queue

log = logging.getLogger("standin")


class BinaryEventTypes:
    PREVIEW_IMAGE = 1
    UNENCODED_PREVIEW_IMAGE = 2
    TEXT = 3
    PREVIEW_IMAGE_WITH_METADATA = 4


class PromptServer:
    instance: ClassVar[PromptServer]

    def __init__(self, args: Args, loop: asyncio.AbstractEventLoop) -> None:
        PromptServer.instance = self
        self.args = args
        self.loop = loop
        self.app = web.Application(
            client_max_size=args.max_upload_bytes, middlewares=chain(cors=args.cors, api_nodes=args.api_nodes)
        )
        self.routes = web.RouteTableDef()
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.client_id: str | None = None
        self.last_node_id: str | None = None
        self.queue = Queue(self)
        self.features: dict[str, Any] = {
            "supports_preview_metadata": True,
            "max_upload_size": args.max_upload_bytes,
            "node_replacements": False,
            "assets": False,
        }
        self.routes.get("/ws")(self._websocket)

    def add_routes(self) -> None:
        """Register every route twice, plain and under /api. Packs must have been loaded before."""
        doubled = web.RouteTableDef()
        for route in self.routes:
            if isinstance(route, web.RouteDef):
                doubled.route(route.method, "/api" + route.path, **route.kwargs)(route.handler)
        self.app.add_routes(doubled)
        self.app.add_routes(self.routes)

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client = request.query.get("clientId") or uuid.uuid4().hex
        # A client that reconnects with its old id replaces its old connection.
        self.sockets[client] = socket
        try:
            await self.send_json("status", {"status": self.queue.info(), "sid": client}, client)
            if self.client_id == client and self.last_node_id is not None:
                await self.send_json("executing", {"node": self.last_node_id}, client)
            first = True
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    if first and _requests_features(message.data):
                        await self.send_json("feature_flags", self.features, client)
                    first = False
        finally:
            if self.sockets.get(client) is socket:
                del self.sockets[client]
        return socket

    async def send(self, event: str | int, data: Any, sid: str | None = None) -> None:
        if isinstance(event, int):
            await self.send_bytes(event, data, sid)
        else:
            await self.send_json(event, data, sid)

    async def send_json(self, event: str, data: Any, sid: str | None = None) -> None:
        await self._deliver(json.dumps({"type": event, "data": data}), sid)

    async def send_bytes(self, event: int, data: bytes, sid: str | None = None) -> None:
        await self._deliver(struct.pack(">I", event) + data, sid)

    def send_sync(self, event: str | int, data: Any, sid: str | None = None) -> None:
        """Send from another thread, as packs' nodes do in ComfyUI."""
        asyncio.run_coroutine_threadsafe(self.send(event, data, sid), self.loop)

    async def _deliver(self, message: str | bytes, sid: str | None) -> None:
        """Send to one client, or to all if `sid` is None. A disconnected client is not an error."""
        targets = list(self.sockets.values()) if sid is None else [self.sockets[sid]] if sid in self.sockets else []
        for socket in targets:
            try:
                if isinstance(message, str):
                    await socket.send_str(message)
                else:
                    await socket.send_bytes(message)
            except (ConnectionError, RuntimeError) as error:
                log.warning("send error: %s", error)


def _requests_features(text: str) -> bool:
    try:
        message = json.loads(text)
    except ValueError:
        return False
    return isinstance(message, dict) and message.get("type") == "feature_flags"
