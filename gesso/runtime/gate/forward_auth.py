"""Caddy's `forward_auth` endpoint: called before every request. Caddy passes a refusal on to the client."""

from __future__ import annotations

import asyncio
import html
import re
import time
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, JSONResponse, Response

from gesso.runtime.gate import pages
from gesso.runtime.gate.decision import ONWARD, AccessRequest, Decision, Gate, decide
from gesso.runtime.gate.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

ACCESS_HEADER = "X-Gesso-Door"
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_MODELS_RETRY = "30"  # seconds
_ANSWERS = {
    "unauthorized": pages.UNAUTHORIZED, "paste-path": pages.PASTE_PATH, "cross-site": pages.CROSS_SITE,
}  # fmt: skip
_API_ERRORS = {
    "unauthorized": {
        "error": "this server requires a token",
        "next": "send Authorization: Bearer TOKEN, or the token as the first part of the path",
    },
    "cross-site": {
        "error": "another site sent this request",
        "next": "send the token: the cookie is valid only for the server's own page",
    },
}
_FIRST_CALL = re.compile(r"(/gesso)?/system_stats\Z")  # of Krita's plugin, when it connects


class ForwardAuth:
    """Answers Caddy. `models_coming` returns why Krita cannot work yet, in one short line; empty if it can."""

    def __init__(self, gate: Gate, models_coming: Callable[[], str] = lambda: "") -> None:
        self._gate, self._models_coming = gate, models_coming
        self._throttle = Throttle()

    async def respond(self, request: Request) -> Response:
        """Respond to Caddy: 200 and the access method, or the error for the client.

        Only an allowed request gets a 2xx: Caddy lets it pass.
        """
        access, address = _access_request(request), request.headers.get("x-forwarded-for", "")
        wait = self._throttle.delay(address, time.monotonic())
        if wait is None:
            return _answer(access, pages.TOO_MANY, {"Retry-After": str(pages.TOO_MANY.retry_after)})
        if wait:
            await asyncio.sleep(wait)
        decided = decide(access, self._gate, time.time())
        self._remember(decided, address)
        if not decided.passed:
            return _refusal(access, decided)
        if _is_first_call(access, decided, self._gate.token) and (
            coming := await asyncio.to_thread(self._models_coming)
        ):
            return JSONResponse({"error": coming}, 503, {**_HEADERS, "Retry-After": _MODELS_RETRY})
        return Response(status_code=200, headers={ACCESS_HEADER: decided.passed})

    def _remember(self, decided: Decision, address: str) -> None:
        if decided.guessed:
            self._throttle.refused(address, time.monotonic())
        elif decided.passed not in {"", "preflight"}:
            self._throttle.accepted(address, time.monotonic())

    async def welcome(self, request: Request) -> Response:
        """Set the cookie for a request with the token in the query, and go on to the URL without it."""
        decided = decide(_access_request(request), self._gate, time.time())
        if decided.passed != "welcome":
            return await self.respond(request)
        onward = html.escape(decided.headers[ONWARD])
        lead = f'<meta http-equiv="refresh" content="0;url={onward}">'
        headers = {**_HEADERS, "Set-Cookie": decided.headers["Set-Cookie"]}
        return _page(pages.page(f'<p>Welcome. <a href="{onward}">Go on</a></p>', lead), 200, headers)

    async def preflight(self, request: Request) -> Response:
        """Answer a CORS preflight of the admin origin with headers only."""
        decided = decide(_access_request(request), self._gate, time.time())
        if decided.passed != "preflight":
            return await self.respond(request)
        return Response(status_code=204, headers=dict(decided.headers))


def _access_request(request: Request) -> AccessRequest:
    headers = request.headers
    method, uri = headers.get("x-forwarded-method", request.method), headers.get("x-forwarded-uri", "/")
    return AccessRequest(method, uri, headers)


def _is_first_call(access: AccessRequest, decided: Decision, token: str) -> bool:
    """Return whether this is the first request of Krita's plugin, not one of ComfyUI's page or of a browser."""
    path = access.path.removeprefix(f"/{token}") if decided.passed == "path" else access.path
    by_program = not access.header("sec-fetch-site") and "text/html" not in access.header("accept")
    is_call = access.method == "GET" and decided.passed in {"path", "bearer"} and _FIRST_CALL.match(path) is not None
    return is_call and by_program


def _refusal(access: AccessRequest, decided: Decision) -> Response:
    headers = {**_HEADERS, **decided.headers}
    if decided.status == 308:
        return Response(status_code=308, headers=headers)
    if "/gesso/api/" in access.path and decided.page in _API_ERRORS:
        return JSONResponse(_API_ERRORS[decided.page], decided.status, headers)
    return _answer(access, _ANSWERS[decided.page], headers)


def _answer(access: AccessRequest, answer: pages.Answer, headers: Mapping[str, str]) -> Response:
    headers = {**_HEADERS, **headers}
    if "text/html" in access.header("accept"):
        return _page(answer.html, answer.status, headers)
    return JSONResponse({"error": answer.error}, answer.status, headers)  # Krita shows `error` alone


def _page(text: str, status: int, headers: Mapping[str, str]) -> Response:
    return HTMLResponse(f"{text}\n", status, {**headers, "Content-Security-Policy": pages.HTML_POLICY})
