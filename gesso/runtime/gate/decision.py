"""The gate's access decision: which requests pass, and by which method. Pure, and in constant time.

Access methods: the token as the first part of the path (Krita keeps it on HTTP and websocket), `Authorization: Bearer`,
and a cookie that `?token=` sets. The cookie is not the token but an expiring signature by it: browsers send cookies to
every port of a host, and on Vast.ai other people's instances are on other ports of the same host. For the same reason
requests with the cookie must come from this origin: SameSite alone would let a neighbour's page act.

One other origin may be set (`GESSO_ADMIN_ORIGIN`): CORS preflights of its pages to the API are answered, nothing else.
A browser sends a preflight without the token, so it grants no access; the request itself needs the path or Bearer.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

COOKIE_DAYS = 30
ONWARD = "X-Gesso-Onward"
ADMIN_HEADERS = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID",
    "Access-Control-Max-Age": "600",
    "Vary": "Origin",
}
_API = re.compile(r"/gesso/api(/[A-Za-z0-9_-]+(\.json)?)*\Z")
_DAY = 86400
_SAFE = {"GET", "HEAD", "OPTIONS"}


@dataclass(frozen=True)
class AccessRequest:
    """A request as the gate received it. `headers` by lower-case name; `uri` undecoded, with its query."""

    method: str
    uri: str
    headers: Mapping[str, str]
    secure: bool = False

    @property
    def path(self) -> str:
        """The path, undecoded."""
        return self.uri.partition("?")[0]

    @property
    def query(self) -> str:
        """The query string, without the question mark."""
        return self.uri.partition("?")[2]

    def header(self, name: str) -> str:
        """Return a header, or an empty string."""
        return self.headers.get(name, "")


@dataclass(frozen=True)
class Decision:
    """What the gate does: `passed` names the access method, else `page` names the error page.

    "welcome" leads to the page that sets the cookie, "preflight" to an empty response, with `headers`.
    """

    status: int
    passed: Literal["path", "bearer", "cookie", "welcome", "preflight", ""] = ""
    page: Literal["unauthorized", "cross-site", ""] = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def decide(request: AccessRequest, token: str, now: float, admin: str = "") -> Decision:
    """Decide about one request at `now` (seconds since the epoch). `admin`: the other allowed origin, or empty."""
    first, slash, rest = request.path.removeprefix("/").partition("/")
    token_in_path = _equal(first, token)
    if admin and _is_preflight(request, f"/{rest}" if token_in_path else request.path, admin):
        return Decision(200, "preflight", headers={"Access-Control-Allow-Origin": admin, **ADMIN_HEADERS})
    if token_in_path:
        if slash:
            return Decision(200, "path")
        query = f"?{request.query}" if request.query else ""
        return Decision(308, headers={"Location": f"/{token}/{query}"})
    return _decide_without_path(request, token, now)


def _decide_without_path(request: AccessRequest, token: str, now: float) -> Decision:
    scheme, _, given = request.header("authorization").partition(" ")
    if _equal(given.strip(), token) and scheme.lower() == "bearer":
        return Decision(200, "bearer")
    if request.method in {"GET", "HEAD"} and _query_has_token(request.query, token):
        return _welcome(request, token, now)
    if _cookie_is_valid(request, token, now):
        return Decision(200, "cookie") if _passes_csrf_check(request) else Decision(403, page="cross-site")
    return Decision(401, page="unauthorized", headers={"WWW-Authenticate": 'Bearer realm="gesso"'})


def _equal(given: str, token: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def _is_preflight(request: AccessRequest, path: str, admin: str) -> bool:
    """Return whether this is a CORS preflight for the API from the admin origin."""
    is_preflight = request.method == "OPTIONS" and bool(request.header("access-control-request-method"))
    return is_preflight and request.header("origin") == admin and _API.match(path) is not None


def _query_has_token(query: str, token: str) -> bool:
    return _equal(next((value for name, value in _pairs(query) if name == "token"), ""), token)


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return []


def _welcome(request: AccessRequest, token: str, now: float) -> Decision:
    """Set the cookie and go on to the URL without the token.

    Not by a redirect: one started from another site (Vast's Open button) would not carry a SameSite=Strict cookie.
    """
    rest = urlencode([pair for pair in _pairs(request.query) if pair[0] != "token"])
    local = "/" + request.path.lstrip("/\\")  # two slashes would point to another host
    path = "/gesso/" if local == "/" else quote(local, safe="/%~!$&'()*+,;=:@")
    end = int(now) + COOKIE_DAYS * _DAY
    flags = f"Path=/; Max-Age={COOKIE_DAYS * _DAY}; HttpOnly; SameSite=Strict{'; Secure' * request.secure}"
    cookie = f"{cookie_name(token)}={end}.{_signature(token, end)}; {flags}"
    onward = f"{path}?{rest}" if rest else path
    return Decision(200, "welcome", headers={"Set-Cookie": cookie, ONWARD: onward})


def cookie_name(token: str) -> str:
    """Return a cookie name unique to the instance: others run on other ports of the same host."""
    return f"gesso-{hashlib.sha256(b'name ' + token.encode()).hexdigest()[:8]}"


def _signature(token: str, end: int) -> str:
    return hmac.new(token.encode(), f"gesso cookie until {end}".encode(), hashlib.sha256).hexdigest()


def _cookie_is_valid(request: AccessRequest, token: str, now: float) -> bool:
    end, _, signature = _cookie_value(request.header("cookie"), cookie_name(token)).partition(".")
    if not (end.isascii() and end.isdigit() and len(end) < 12):
        return False
    return _equal(signature, _signature(token, int(end))) and now < int(end)


def _cookie_value(header: str, name: str) -> str:
    """Return the value of one cookie; empty if it is missing.

    As RFC 6265 (4.2.1) has it: pairs separated by `;`. Cookies of other programs on the same host are not parsed: one
    that is invalid must not hide ours.
    """
    pairs = (pair.strip(" \t").partition("=") for pair in header.split(";"))
    return next((value.strip(' \t"') for key, equals, value in pairs if equals and key.strip(" \t") == name), "")


def _passes_csrf_check(request: AccessRequest) -> bool:
    """Return whether this comes from our own page, or from a typed URL or a followed link."""
    site, mode, dest = (request.header(f"sec-fetch-{name}") for name in ("site", "mode", "dest"))
    changes = request.method not in _SAFE or request.header("upgrade").lower() == "websocket"
    origin = request.header("origin")
    if origin and urlsplit(origin).netloc.lower() != request.header("host").lower():
        return False
    if changes:
        return site == "same-origin" or (not site and bool(origin))
    return site in {"", "same-origin", "none"} or (mode == "navigate" and dest == "document")
