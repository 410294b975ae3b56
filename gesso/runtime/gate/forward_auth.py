"""Caddy's `forward_auth` endpoint: called before every request. Caddy passes a refusal on to the client."""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, JSONResponse, Response

from gesso.runtime.gate.caddy import UNAUTHORIZED
from gesso.runtime.gate.decision import ONWARD, AccessRequest, decide

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

ACCESS_HEADER = "X-Gesso-Door"
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:12vh auto;padding:0 1rem;color-scheme:light dark}"
    "input,button{font:inherit;padding:.5rem .7rem}input{width:min(100%,20rem)}code{background:#8883;padding:0 .25em}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
_UNAUTHORIZED = """\
<h1>401: this server requires a token</h1>
<p>Open the URL that <code>gesso url</code> prints on the instance (on Vast.ai: the Open button of the instance).
It looks like <code>http://HOST:PORT/TOKEN</code>; paste the same URL into Krita.</p>
<form action="/" method="get"><label for="token">Or enter the token here:</label><br>
<input id="token" name="token" type="password" autocomplete="current-password" required>
<button>Let me in</button></form>"""
_CROSS_SITE = """\
<h1>403: another site sent this request</h1>
<p>A page of another site tried to use this server with your cookie, and was refused. If that was you, open this
server's own URL first.</p>"""
_SHORT_ERRORS = {"unauthorized": UNAUTHORIZED, "cross-site": "Another site sent this request; it was refused"}
_JSON_ERRORS = {
    "unauthorized": {
        "error": "this server requires a token",
        "next": "send Authorization: Bearer TOKEN, or the token as the first part of the path",
    },
    "cross-site": {
        "error": "another site sent this request",
        "next": "send the token: the cookie is valid only for the server's own page",
    },
}


def respond(request: Request, token: str, *, secure: bool, admin: str = "") -> Response:
    """Respond to Caddy: 200 and the access method, or the error for the client.

    Only an allowed request gets a 2xx: Caddy lets it pass.
    """
    access = _access_request(request, secure=secure)
    decided = decide(access, token, time.time(), admin)
    if decided.passed:
        return Response(status_code=200, headers={ACCESS_HEADER: decided.passed})
    headers = {**_HEADERS, **decided.headers}
    if decided.status == 308:
        return Response(status_code=308, headers=headers)
    if "/gesso/api/" in access.path:
        return JSONResponse(_JSON_ERRORS[decided.page], decided.status, headers)
    if "text/html" in access.header("accept"):
        return _page(_UNAUTHORIZED if decided.page == "unauthorized" else _CROSS_SITE, decided.status, headers)
    return JSONResponse({"error": _SHORT_ERRORS[decided.page]}, decided.status, headers)  # Krita shows `error` alone


def welcome(request: Request, token: str, *, secure: bool) -> Response:
    """Set the cookie for a request with the token in the query, and go on to the URL without it."""
    decided = decide(_access_request(request, secure=secure), token, time.time())
    if decided.passed != "welcome":
        return respond(request, token, secure=secure)
    onward = html.escape(decided.headers[ONWARD])
    lead = f'<meta http-equiv="refresh" content="0;url={onward}">'
    headers = {**_HEADERS, "Set-Cookie": decided.headers["Set-Cookie"]}
    return _page(f'<p>Welcome. <a href="{onward}">Go on</a></p>', 200, headers, lead)


def preflight(request: Request, token: str, *, admin: str) -> Response:
    """Answer a CORS preflight of the admin origin with headers only."""
    decided = decide(_access_request(request, secure=False), token, time.time(), admin)
    if decided.passed != "preflight":
        return respond(request, token, secure=False, admin=admin)
    return Response(status_code=204, headers=dict(decided.headers))


def _access_request(request: Request, *, secure: bool) -> AccessRequest:
    headers = request.headers
    method, uri = headers.get("x-forwarded-method", request.method), headers.get("x-forwarded-uri", "/")
    return AccessRequest(method, uri, headers, secure=secure)


def _page(body: str, status: int, headers: Mapping[str, str], lead: str = "") -> Response:
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{lead}<title>gesso</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><main>{body}</main></body></html>\n"
    )
    return HTMLResponse(text, status, {**headers, "Content-Security-Policy": _POLICY})
