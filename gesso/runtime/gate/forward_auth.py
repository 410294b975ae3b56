"""The gate's question, answered: Caddy asks before every request, and passes on what is said here where it is a no."""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from gesso.runtime.gate.decision import ONWARD, Asked, decide

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

DOOR = "X-Gesso-Door"
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:12vh auto;padding:0 1rem;color-scheme:light dark}"
    "input,button{font:inherit;padding:.5rem .7rem}input{width:min(100%,20rem)}code{background:#8883;padding:0 .25em}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
_WHO = """\
<h1>401: this server wants its token</h1>
<p>Open the address that <code>gesso url</code> prints on the instance (on Vast.ai: the Open button of the instance).
It looks like <code>http://HOST:PORT/TOKEN</code>, and the same address goes into Krita.</p>
<form action="/" method="get"><label for="token">Or give the token here:</label><br>
<input id="token" name="token" type="password" autocomplete="current-password" required>
<button>Let me in</button></form>"""
_FOREIGN = """\
<h1>403: another site sent this request</h1>
<p>A page from elsewhere tried to act here with your cookie, and was refused. If it was you, open the server's own
address first.</p>"""
_PLAIN = {
    "who": "401: this server wants its token. Use the address that `gesso url` prints on the instance.\n",
    "foreign": "403: another site sent this request; it was refused.\n",
}
_FOR_PROGRAMS = {
    "who": {
        "error": "this server wants its token",
        "next": "send Authorization: Bearer TOKEN, or the token as the first part of the path",
    },
    "foreign": {
        "error": "another site sent this request",
        "next": "come with the token: the cookie is for its own page",
    },
}


def answer(request: Request, token: str, *, secure: bool, admin: str = "") -> Response:
    """Answer Caddy: 200 and the door, or what the client is to be told.

    Only who may pass gets a 2xx: Caddy takes that for a yes.
    """
    asked = _asked(request, secure=secure)
    decided = decide(asked, token, time.time(), admin)
    if decided.passed:
        return Response(status_code=200, headers={DOOR: decided.passed})
    headers = {**_HEADERS, **decided.headers}
    if decided.status == 308:
        return Response(status_code=308, headers=headers)
    if "/gesso/api/" in asked.path:
        return JSONResponse(_FOR_PROGRAMS[decided.page], decided.status, headers)
    if "text/html" in asked.header("accept"):
        return _page(_WHO if decided.page == "who" else _FOREIGN, decided.status, headers)
    return PlainTextResponse(_PLAIN[decided.page], decided.status, headers)


def welcome(request: Request, token: str, *, secure: bool) -> Response:
    """Set the cookie for who came with the token in the query, and lead on to the address without it."""
    decided = decide(_asked(request, secure=secure), token, time.time())
    if decided.passed != "welcome":
        return answer(request, token, secure=secure)
    onward = html.escape(decided.headers[ONWARD])
    lead = f'<meta http-equiv="refresh" content="0;url={onward}">'
    headers = {**_HEADERS, "Set-Cookie": decided.headers["Set-Cookie"]}
    return _page(f'<p>Welcome. <a href="{onward}">Go on</a></p>', 200, headers, lead)


def preflight(request: Request, token: str, *, admin: str) -> Response:
    """Tell a browser what pages of the admin's origin may ask of the API: nothing else is in the answer."""
    decided = decide(_asked(request, secure=False), token, time.time(), admin)
    if decided.passed != "preflight":
        return answer(request, token, secure=False, admin=admin)
    return Response(status_code=204, headers=dict(decided.headers))


def _asked(request: Request, *, secure: bool) -> Asked:
    headers = request.headers
    method, uri = headers.get("x-forwarded-method", request.method), headers.get("x-forwarded-uri", "/")
    return Asked(method, uri, headers, secure=secure)


def _page(body: str, status: int, headers: Mapping[str, str], lead: str = "") -> Response:
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{lead}<title>gesso</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><main>{body}</main></body></html>\n"
    )
    return HTMLResponse(text, status, {**headers, "Content-Security-Policy": _POLICY})
