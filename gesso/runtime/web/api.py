"""The JSON API for programs and other admin pages: /gesso/api/, described by openapi.json (docs/adr/0023).

Behind the gate like everything else. Pages of one other origin may use it, if GESSO_ADMIN_ORIGIN names it.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gesso.errors import CheckError
from gesso.runtime.web import logs
from gesso.runtime.web.openapi import document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from starlette.requests import Request

    from gesso.runtime.watch.heals import Healer
    from gesso.runtime.web.logs import LogReader

BODY_LIMIT = 4096  # bytes
_POLL_INTERVAL = 0.25  # seconds between two reads of a journal
_KEEPALIVE = 15.0  # seconds without events after which a keepalive is sent
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_SEE_OPENAPI = "see openapi.json for the endpoints"
_NEXT = {404: _SEE_OPENAPI, 405: "use a method that the Allow header lists"}


def api(
    status: Callable[[], dict[str, Any]], healer: Healer, reader: LogReader, *, stopping: Callable[[], bool],
    admin: str = "",
) -> Starlette:  # fmt: skip
    """Create the API; `status` returns the state as plain data, `stopping` whether the agent shuts down."""

    def openapi(_: Request) -> Response:
        return _json(document())

    def state(_: Request) -> Response:
        return _json(status())

    async def heal(request: Request) -> Response:
        if request.method != "POST":
            latest = await asyncio.to_thread(healer.latest)
            return _json(latest or {"state": "none"})
        dry_run = _parse_dry_run(request.headers.get("content-type", ""), await _body(request))
        return await asyncio.to_thread(_start, healer, dry_run=dry_run, by=_requester(request.headers, admin))

    def listed(_: Request) -> Response:
        return _json({"reports": healer.summaries()})

    def one(request: Request) -> Response:
        found = healer.details(request.path_params["id"])
        return _unknown() if found is None else _json(found)

    async def events(request: Request) -> Response:
        name, offset = request.path_params["id"], _offset(request)
        if await asyncio.to_thread(healer.state, name) is None:
            return _unknown()
        headers, kind = {**_HEADERS, "X-Accel-Buffering": "no"}, "text/event-stream"
        if request.method == "HEAD":
            return Response(headers=headers, media_type=kind)
        return StreamingResponse(_stream(healer, name, offset, stopping), media_type=kind, headers=headers)

    cors = Middleware(CORSMiddleware, allow_origins=[admin], allow_methods=["GET", "POST"], expose_headers=["Location"])
    made = Starlette(
        routes=[
            Route("/openapi.json", openapi), Route("/status", state), Route("/heal", heal, methods=["GET", "POST"]),
            Route("/heal/{id}/events", events), Route("/reports", listed), Route("/reports/{id}", one),
            *logs.routes(reader),
        ],
        exception_handlers={HTTPException: refused}, middleware=[cors] if admin else [],
    )  # fmt: skip
    made.router.redirect_slashes = False  # it would redirect to a URL without the token
    return made


def _json(found: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(found, status, headers={**_HEADERS, **(headers or {})})


def _error(status: int, error: str, step: str, **more: Any) -> Response:
    return _json({"error": error, "next": step, **more}, status)


def _unknown() -> Response:
    return _error(404, "no heal has that ID", "GET reports lists the stored ones")


def refused(_: Request, error: Exception) -> Response:
    """Return an HTTP error as JSON. `detail` may contain its own next step, in a second line."""
    assert isinstance(error, HTTPException)
    message, *steps = error.detail.split("\n", 1)
    answer = _error(error.status_code, message, "".join(steps) or _NEXT.get(error.status_code, _SEE_OPENAPI))
    answer.headers.update(error.headers or {})
    return answer


async def _body(request: Request) -> bytes:
    """Read a body up to the size limit."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_LIMIT:
            raise HTTPException(413, f"the body is larger than {BODY_LIMIT} bytes\nsend no body, or a small one")
    return body


def _parse_dry_run(kind: str, body: bytes) -> bool:
    """Return whether a dry run is requested; an empty body means a full heal."""
    if not body:
        return False
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the body is not declared as JSON\nsend Content-Type: application/json, or no body")
    next_step = '\nsend {"dry_run": true} or {"dry_run": false}, or no body'
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, f"the body is not JSON{next_step}") from None
    if (
        not isinstance(request, dict)
        or not isinstance(request.get("dry_run", False), bool)
        or request.keys() - {"dry_run"}
    ):
        raise HTTPException(400, f"the body is not a valid heal request{next_step}")
    return bool(request.get("dry_run", False))


def _requester(headers: Mapping[str, str], admin: str) -> str:
    """Return the requester for the report: our own page, the admin origin, or a program."""
    if admin and headers.get("origin") == admin:
        return admin
    return "page" if headers.get("sec-fetch-site") == "same-origin" else "api"


def _start(healer: Healer, *, dry_run: bool, by: str) -> Response:
    try:
        started = healer.start(dry_run=dry_run, by=by)
    except CheckError as error:
        return _error(503, error.message, error.next_step)
    if not started.new:
        wait = "wait for it to end; its events show the progress"
        return _error(409, "a heal is already running", wait, id=started.name or None)
    found = {"id": started.name, "state": "running", "dry_run": dry_run, "by": by}
    return _json(found, 202, {"Location": f"reports/{started.name}"})


def _offset(request: Request) -> int:
    """Return the byte offset in the journal: reconnecting browsers send it in a header, others in the query."""
    if unknown := request.query_params.keys() - {"after"}:
        raise HTTPException(
            400, f"{min(unknown)[:40]!r} is not a parameter of this request\nsend only after, or nothing"
        )
    given = request.query_params.get("after", "0")
    if not _is_offset(given):
        raise HTTPException(400, "after is not a byte offset\nsend the id of the last event received, or nothing")
    last = request.headers.get("last-event-id", "")  # newer than the query: a browser reconnects with its first URL
    return int(last) if _is_offset(last) else int(given)


def _is_offset(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16


async def _stream(healer: Healer, name: str, offset: int, stopping: Callable[[], bool]) -> AsyncIterator[str]:
    """Stream a journal from an offset on, live until the heal's end. An event's id is the offset after its line."""
    quiet = 0.0
    while not stopping():
        state = await asyncio.to_thread(
            healer.state, name
        )  # read before the events, so that none before the end is lost
        events = await asyncio.to_thread(healer.events, name, offset)
        for after, event in events:
            offset = after
            yield f"id: {after}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n"
        if events:
            quiet = 0.0
            continue
        if state != "running":
            yield f"event: end\ndata: {json.dumps({'state': state})}\n\n"
            return
        if quiet >= _KEEPALIVE:
            yield ": here\n\n"
            quiet = 0.0
        await asyncio.sleep(_POLL_INTERVAL)
        quiet += _POLL_INTERVAL
