"""The agent's web application: one page without a build step, live by server-sent events, and the same for programs."""

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
from gesso.runtime.state import metrics
from gesso.runtime.web.api import api, refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    from gesso.runtime.watch.heals import Healer

_STEP = 0.4  # seconds between two looks at what a page should be told
_BEAT = 15.0  # seconds without news after which a page is told that we live
_FILES = ("style.css", "app.js", "draw.js", "heal.js", "icon.svg")
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
}


def application(
    status: Callable[[], dict[str, Any]], token: str, healer: Healer,
    *, secure: bool = False, ended: Callable[[], bool] = lambda: False, admin: str = "",
) -> Starlette:  # fmt: skip
    """Make the application.

    `status` gives the state as plain data, `ended` says that the agent is to go, `admin` is the one other origin whose
    pages may use the API.
    """

    async def gate(request: Request) -> Response:  # not in a thread, which would cost more than the answer
        return forward_auth.answer(request, token, secure=secure, admin=admin)

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
        return StreamingResponse(_stream(status, ended), media_type="text/event-stream", headers=headers)

    def to_page(_: Request) -> Response:
        return RedirectResponse("gesso/", 308)

    made = Starlette(
        routes=[
            Route("/gate", gate),  # Caddy asks with GET, whatever it was asked with
            Route("/gate/welcome", welcome),
            Route("/gate/preflight", preflight, methods=["OPTIONS"]),
            Route("/gesso", to_page),
            Route("/gesso/", _file("index.html")),
            *[Route(f"/gesso/{name}", _file(name)) for name in _FILES],
            Mount("/gesso/api", api(status, healer, ended=ended, admin=admin)),
            Route("/gesso/status.json", status_json),
            Route("/gesso/events", events),
            Route("/metrics", prometheus),
        ],
        exception_handlers={HTTPException: refused},
    )
    made.router.redirect_slashes = False  # it would lead to an address without the token
    return made


def _file(name: str) -> Callable[[Request], Response]:
    body = resources.files("gesso.runtime.web").joinpath("static", name).read_bytes()
    kind = f"{_TYPES[name.rsplit('.', 1)[1]]}; charset=utf-8"

    def serve(_: Request) -> Response:
        return Response(body, headers={**_HEADERS, "Content-Type": kind})

    return serve


async def _stream(status: Callable[[], dict[str, Any]], ended: Callable[[], bool]) -> AsyncIterator[str]:
    """Tell a page the whole state, and again whenever it is another one."""
    last, quiet = "", 0.0
    while not ended():
        text = json.dumps(await asyncio.to_thread(status), separators=(",", ":"))
        if text != last:
            yield f"event: status\ndata: {text}\n\n"
            last, quiet = text, 0.0
        elif quiet >= _BEAT:
            yield ": here\n\n"
            quiet = 0.0
        await asyncio.sleep(_STEP)
        quiet += _STEP
