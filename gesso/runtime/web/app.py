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

from gesso.runtime.gate.forward_auth import ForwardAuth
from gesso.runtime.gate.paths import PAGE_FILES
from gesso.runtime.state import metrics
from gesso.runtime.state.coming import models_coming
from gesso.runtime.web.api import api, refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from starlette.requests import Request

    from gesso.runtime.gate.decision import Gate
    from gesso.runtime.watch.heals import Healer
    from gesso.runtime.web.logs import LogReader

_POLL_INTERVAL = 0.4  # seconds between two checks for a new status
_KEEPALIVE = 15.0  # seconds without events after which a keepalive is sent
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
}


def application(
    status: Callable[[], dict[str, Any]], gate: Gate, healer: Healer, reader: LogReader,
    *, stopping: Callable[[], bool] = lambda: False, internal: Sequence[Route] = (),
) -> Starlette:  # fmt: skip
    """Create the application.

    `status` returns the state as plain data, `stopping` whether the agent shuts down; `internal` are routes that the
    gate does not lead to.
    """
    forward_auth = ForwardAuth(gate, lambda: models_coming(status()))

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
            *internal,
            Route("/gate", forward_auth.respond),  # Caddy sends GET, whatever the client's method
            Route("/gate/welcome", forward_auth.welcome),
            Route("/gate/preflight", forward_auth.preflight, methods=["OPTIONS"]),
            Route("/gesso", to_page),
            Route("/gesso/", _file("index.html")),
            *[Route(f"/gesso/{name}", _file(name)) for name in PAGE_FILES],
            Mount("/gesso/api", api(status, healer, reader, stopping=stopping, admin=gate.admin)),
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
