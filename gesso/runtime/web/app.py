"""The agent's web application: one page without a build step, updated by server-sent events; JSON and metrics."""

from __future__ import annotations

import asyncio
import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from gesso.runtime.gate import forward_auth
from gesso.runtime.layout import Layout
from gesso.runtime.state import metrics
from gesso.runtime.web.api import api, refused
from gesso.runtime.web.logs import LogReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    from gesso.runtime.watch.heals import Healer

_POLL_INTERVAL = 0.4  # seconds between two checks for a new status
_KEEPALIVE = 15.0  # seconds without events after which a keepalive is sent
_FILES = ("style.css", "app.js", "draw.js", "heal.js", "logs.js", "state.js", "icon.svg")
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
}


def application(
    status: Callable[[], dict[str, Any]], token: str, healer: Healer,
    *, secure: bool = False, stopping: Callable[[], bool] = lambda: False, admin: str = "",
    reader: LogReader | None = None,
) -> Starlette:  # fmt: skip
    """Create the application.

    `status` returns the state as plain data, `stopping` whether the agent shuts down; `admin` is the only other origin
    whose pages may use the API; `reader` reads the logs, by default those of this instance.
    """
    reader = reader or LogReader(Layout(), {}, token)

    async def gate(request: Request) -> Response:  # async: a thread would cost more than the response
        return forward_auth.respond(request, token, secure=secure, admin=admin)

    async def preflight(request: Request) -> Response:
        return forward_auth.preflight(request, token, admin=admin)

    async def welcome(request: Request) -> Response:
        return forward_auth.welcome(request, token, secure=secure)

    def status_json(_: Request) -> Response:
        return JSONResponse(status(), headers={"Cache-Control": "no-store"})

    def prometheus(_: Request) -> Response:
        return Response(metrics.text(status()), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def events(_: Request) -> Response:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_stream(status, stopping), media_type="text/event-stream", headers=headers)

    def to_page(_: Request) -> Response:
        return RedirectResponse("gesso/", 308)

    made = Starlette(
        routes=[
            Route("/gate", gate),  # Caddy sends GET, whatever the client's method
            Route("/gate/welcome", welcome),
            Route("/gate/preflight", preflight, methods=["OPTIONS"]),
            Route("/gesso", to_page),
            Route("/gesso/", _file("index.html")),
            *[Route(f"/gesso/{name}", _file(name)) for name in _FILES],
            Mount("/gesso/api", api(status, healer, reader, stopping=stopping, admin=admin)),
            Route("/gesso/status.json", status_json),
            Route("/gesso/events", events),
            Route("/metrics", prometheus),
        ],
        exception_handlers={HTTPException: refused},
    )
    made.router.redirect_slashes = False  # it would redirect to a URL without the token
    return made


def _file(name: str) -> Callable[[Request], Response]:
    body = resources.files("gesso.runtime.web").joinpath("static", name).read_bytes()
    kind = f"{_TYPES[name.rsplit('.', 1)[1]]}; charset=utf-8"

    def serve(_: Request) -> Response:
        return Response(body, headers={**_HEADERS, "Content-Type": kind})

    return serve


async def _stream(status: Callable[[], dict[str, Any]], stopping: Callable[[], bool]) -> AsyncIterator[str]:
    """Stream the whole state, at first and whenever it changes."""
    last, quiet = "", 0.0
    while not stopping():
        text = json.dumps(await asyncio.to_thread(status), separators=(",", ":"))
        if text != last:
            yield f"event: status\ndata: {text}\n\n"
            last, quiet = text, 0.0
        elif quiet >= _KEEPALIVE:
            yield ": here\n\n"
            quiet = 0.0
        await asyncio.sleep(_POLL_INTERVAL)
        quiet += _POLL_INTERVAL
