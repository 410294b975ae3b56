"""The API for programs and other admin pages: /gesso/api/, JSON, described by openapi.json (docs/adr/0023).

Behind the gate like everything else. Pages of one other origin may use it, where the instance names that one.
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
from gesso.runtime.web.openapi import document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from starlette.requests import Request

    from gesso.runtime.watch.heals import Healer

BODY_LIMIT = 4096  # bytes
_STEP = 0.25  # seconds between two looks at a journal
_BEAT = 15.0  # seconds without news after which a listener is told that we live
_FRESH = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_LOOK = "look into openapi.json for what there is"
_NEXT = {404: _LOOK, 405: "use a method that the header Allow names"}


def api(
    status: Callable[[], dict[str, Any]], healer: Healer, *, ended: Callable[[], bool], admin: str = ""
) -> Starlette:  # fmt: skip
    """Make the API; `status` gives the state as plain data, `ended` says that the agent is to go."""

    def openapi(_: Request) -> Response:
        return _json(document())

    def state(_: Request) -> Response:
        return _json(status())

    async def heal(request: Request) -> Response:
        if request.method != "POST":
            latest = await asyncio.to_thread(healer.latest)
            return _json(latest or {"state": "none"})
        dry_run = _wish(request.headers.get("content-type", ""), await _body(request))
        return await asyncio.to_thread(_start, healer, dry_run=dry_run, by=_who(request.headers, admin))

    def listed(_: Request) -> Response:
        return _json({"reports": healer.listed()})

    def one(request: Request) -> Response:
        found = healer.told(request.path_params["id"])
        return _unknown() if found is None else _json(found)

    async def events(request: Request) -> Response:
        name, offset = request.path_params["id"], _offset(request)
        if await asyncio.to_thread(healer.state, name) is None:
            return _unknown()
        headers, kind = {**_FRESH, "X-Accel-Buffering": "no"}, "text/event-stream"
        if request.method == "HEAD":
            return Response(headers=headers, media_type=kind)
        return StreamingResponse(_stream(healer, name, offset, ended), media_type=kind, headers=headers)

    cors = Middleware(CORSMiddleware, allow_origins=[admin], allow_methods=["GET", "POST"], expose_headers=["Location"])
    made = Starlette(
        routes=[
            Route("/openapi.json", openapi), Route("/status", state), Route("/heal", heal, methods=["GET", "POST"]),
            Route("/heal/{id}/events", events), Route("/reports", listed), Route("/reports/{id}", one),
        ],
        exception_handlers={HTTPException: refused}, middleware=[cors] if admin else [],
    )  # fmt: skip
    made.router.redirect_slashes = False  # it would lead to an address without the token
    return made


def _json(found: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(found, status, headers={**_FRESH, **(headers or {})})


def _error(status: int, error: str, step: str, **more: Any) -> Response:
    return _json({"error": error, "next": step, **more}, status)


def _unknown() -> Response:
    return _error(404, "there is no heal of that id", "GET reports names those that are kept")


def refused(_: Request, error: Exception) -> Response:
    """Say as JSON what the routes, or what reads a body, refuse. `detail` may bring its own next step."""
    assert isinstance(error, HTTPException)
    said, *steps = error.detail.split("\n", 1)
    answer = _error(error.status_code, said, "".join(steps) or _NEXT.get(error.status_code, _LOOK))
    answer.headers.update(error.headers or {})
    return answer


async def _body(request: Request) -> bytes:
    """Read a body that is small."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_LIMIT:
            raise HTTPException(413, f"the body is larger than {BODY_LIMIT} bytes\nsend no body, or a small one")
    return body


def _wish(kind: str, body: bytes) -> bool:
    """Tell whether a dry run is wanted; nothing is a whole heal."""
    if not body:
        return False
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the body is not declared as JSON\nsend Content-Type: application/json, or no body")
    right = '\nsend {"dry_run": true} or {"dry_run": false}, or no body'
    try:
        wish = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, f"the body is not JSON{right}") from None
    if not isinstance(wish, dict) or not isinstance(wish.get("dry_run", False), bool) or wish.keys() - {"dry_run"}:
        raise HTTPException(400, f"the body is not what a heal can be asked for{right}")
    return bool(wish.get("dry_run", False))


def _who(headers: Mapping[str, str], admin: str) -> str:
    """Tell who asks, for the report: our own page, the operator's, or a program."""
    if admin and headers.get("origin") == admin:
        return admin
    return "page" if headers.get("sec-fetch-site") == "same-origin" else "api"


def _start(healer: Healer, *, dry_run: bool, by: str) -> Response:
    try:
        started = healer.start(dry_run=dry_run, by=by)
    except CheckError as error:
        return _error(503, error.message, error.next_step)
    if not started.new:
        wait = "wait for its end; its events tell how far it is"
        return _error(409, "a heal is at work already", wait, id=started.name or None)
    found = {"id": started.name, "state": "running", "dry_run": dry_run, "by": by}
    return _json(found, 202, {"Location": f"reports/{started.name}"})


def _offset(request: Request) -> int:
    """Tell from which byte of the journal on: a browser that comes again says it in a header, others in the query."""
    if unknown := request.query_params.keys() - {"after"}:
        raise HTTPException(400, f"{min(unknown)[:40]!r} is no parameter of this\ngive after, or nothing")
    given = request.query_params.get("after", "0")
    if not _counts(given):
        raise HTTPException(400, "after is no number of bytes\ngive the id of the last event that came, or nothing")
    last = request.headers.get("last-event-id", "")  # the later one: a browser keeps the address that it began with
    return int(last) if _counts(last) else int(given)


def _counts(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16


async def _stream(healer: Healer, name: str, offset: int, ended: Callable[[], bool]) -> AsyncIterator[str]:
    """Tell a journal from an offset on, and what comes, until the heal's end. The offset after a line is its id."""
    quiet = 0.0
    while not ended():
        state = await asyncio.to_thread(healer.state, name)  # before the lines: what came before its end is told
        lines = await asyncio.to_thread(healer.lines, name, offset)
        for after, event in lines:
            offset = after
            yield f"id: {after}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n"
        if lines:
            quiet = 0.0
            continue
        if state != "running":
            yield f"event: end\ndata: {json.dumps({'state': state})}\n\n"
            return
        if quiet >= _BEAT:
            yield ": here\n\n"
            quiet = 0.0
        await asyncio.sleep(_STEP)
        quiet += _STEP
