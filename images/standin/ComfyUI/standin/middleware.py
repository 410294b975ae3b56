"""ComfyUI's checks of browser requests (same origin, CORS), which a gate in front of it has to satisfy."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

log = logging.getLogger("standin")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LOCAL_CONTENT_ONLY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self' data:; frame-src 'self'; object-src 'self';"
)


def chain(*, cors: str | None, api_nodes: bool) -> list[Middleware]:
    browser = _cors(cors) if cors else _same_origin
    return [browser] if api_nodes else [browser, _content_policy]


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


@web.middleware
async def _same_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Reject requests from another site's page to a server on the visitor's own machine."""
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        return web.Response(status=403)
    host, origin = (
        urlsplit(f"//{request.headers.get('Host', '').lower()}"),
        urlsplit(request.headers.get("Origin", "")),
    )
    if origin.hostname and _is_loopback(host.hostname):
        ports_differ = None not in (host.port, origin.port) and host.port != origin.port
        if host.hostname != origin.hostname or ports_differ:
            log.warning("WARNING: request with non matching host and origin, returning 403")
            return web.Response(status=403)
    return web.Response() if request.method == "OPTIONS" else await handler(request)


def _cors(origin: str) -> Middleware:
    @web.middleware
    async def cors(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = web.Response() if request.method == "OPTIONS" else await handler(request)
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Methods"] = "POST, GET, DELETE, PUT, OPTIONS, PATCH"
        response.headers["Access-Control-Allow-Headers"] = "Content-Type, Authorization"
        response.headers["Access-Control-Allow-Credentials"] = "true"
        return response

    return cors


@web.middleware
async def _content_policy(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Add the header that --disable-api-nodes adds to every response."""
    response = await handler(request)
    if not response.prepared:
        response.headers["Content-Security-Policy"] = LOCAL_CONTENT_ONLY
    return response
