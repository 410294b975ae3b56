"""The gate's access decision: which requests pass, and by which method. Pure, and in constant time.

Access methods: the token as the first part of the path (Krita keeps it on HTTP and websocket), `Authorization: Bearer`,
and a cookie that `?token=` sets. The cookie is an expiring signature with a random key, and does not reveal the token:
browsers send cookies to every port of a host, and on Vast.ai other people's instances are on other ports of the same
host. Therefore requests with the cookie must come from this origin: SameSite alone would let a neighbour's page act.

One other origin may be set (`GESSO_ADMIN_ORIGIN`): CORS preflights of its pages to the API are answered, nothing else.
A browser sends a preflight without the token, so it grants no access; the request itself needs the path or Bearer.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, quote, urlencode

from gesso.runtime.gate.address import normalised
from gesso.runtime.gate.tokens import looks_like_token

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
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="gesso"'}
_API = re.compile(r"/gesso/api(/[A-Za-z0-9_-]+(\.json)?)*\Z")
_DAY = 86400
_SAFE = {"GET", "HEAD", "OPTIONS"}


@dataclass(frozen=True)
class Gate:
    """What decisions depend on. `key` signs cookies; `admin` and `public` are origins, or empty; `secure`: with TLS."""

    token: str
    key: bytes
    admin: str = ""
    public: str = ""
    secure: bool = False


@dataclass(frozen=True)
class AccessRequest:
    """A request as the gate received it. `headers` by lower-case name; `uri` undecoded, with its query."""

    method: str
    uri: str
    headers: Mapping[str, str]

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
    page: Literal["unauthorized", "paste-path", "cross-site", ""] = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    guessed: bool = False  # refused, and it contained something that could have been a token


def decide(request: AccessRequest, gate: Gate, now: float) -> Decision:
    """Decide about one request at `now` (seconds since the epoch)."""
    first, slash, rest = request.path.removeprefix("/").partition("/")
    token_in_path = _equal(first, gate.token)
    if gate.admin and _is_preflight(request, f"/{rest}" if token_in_path else request.path, gate.admin):
        return Decision(200, "preflight", headers={"Access-Control-Allow-Origin": gate.admin, **ADMIN_HEADERS})
    if token_in_path:
        if _is_krita_with_query(request, gate):
            return Decision(401, page="paste-path", headers=CHALLENGE)
        if slash:
            return Decision(200, "path")
        query = f"?{request.query}" if request.query else ""
        return Decision(308, headers={"Location": f"/{gate.token}/{query}"})
    return _decide_without_path(request, gate, now, guessed=looks_like_token(first))


def _decide_without_path(request: AccessRequest, gate: Gate, now: float, *, guessed: bool) -> Decision:
    scheme, _, given = request.header("authorization").partition(" ")
    if _equal(given.strip(), gate.token) and scheme.lower() == "bearer":
        return Decision(200, "bearer")
    in_query = _token_in_query(request)
    if _equal(in_query, gate.token) and request.method in {"GET", "HEAD"}:
        return _welcome(request, gate, now)
    cookie = _cookie_value(request.header("cookie"), cookie_name(gate.key))
    if _cookie_is_valid(cookie, gate, now):
        return Decision(200, "cookie") if _passes_csrf_check(request, gate) else Decision(403, page="cross-site")
    pasted, slash, _ = in_query.partition("/")  # Krita appends its paths to the whole URL, and so to the query
    page: Literal["paste-path", "unauthorized"] = "paste-path" if slash else "unauthorized"
    wrong_query = bool(in_query) and not _equal(pasted, gate.token)
    was_guessed = guessed or bool(given) or wrong_query or bool(cookie)
    return Decision(401, page=page, headers=CHALLENGE, guessed=was_guessed)


def _is_krita_with_query(request: AccessRequest, gate: Gate) -> bool:
    """Return whether Krita's address is `…/TOKEN/?token=TOKEN`: it appends its paths to the query.

    ComfyUI would answer each of them with its start page, of which Krita makes a long message about a websocket.
    """
    pasted, slash, _ = _token_in_query(request).partition("/")
    return bool(slash) and _equal(pasted, gate.token)


def _token_in_query(request: AccessRequest) -> str:
    return next((value for name, value in _pairs(request.query) if name == "token"), "")


def _equal(given: str, token: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def _is_preflight(request: AccessRequest, path: str, admin: str) -> bool:
    """Return whether this is a CORS preflight for the API from the admin origin."""
    is_preflight = request.method == "OPTIONS" and bool(request.header("access-control-request-method"))
    return is_preflight and request.header("origin") == admin and _API.match(path) is not None


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return []


def _welcome(request: AccessRequest, gate: Gate, now: float) -> Decision:
    """Set the cookie and go on to the URL without the token.

    Not by a redirect: one started from another site (Vast's Open button) would not carry a SameSite=Strict cookie.
    """
    rest = urlencode([pair for pair in _pairs(request.query) if pair[0] != "token"])
    local = "/" + request.path.lstrip("/\\")  # two slashes would point to another host
    path = "/gesso/" if local == "/" else quote(local, safe="/%~!$&'()*+,;=:@")
    end = int(now) + COOKIE_DAYS * _DAY
    flags = f"Path=/; Max-Age={COOKIE_DAYS * _DAY}; HttpOnly; SameSite=Strict{'; Secure' * gate.secure}"
    cookie = f"{cookie_name(gate.key)}={end}.{_signature(gate, end)}; {flags}"
    onward = f"{path}?{rest}" if rest else path
    return Decision(200, "welcome", headers={"Set-Cookie": cookie, ONWARD: onward})


def cookie_name(key: bytes) -> str:
    """Return a cookie name unique to the instance: others run on other ports of the same host."""
    return f"gesso-{hashlib.sha256(b'name ' + key).hexdigest()[:8]}"


def _signature(gate: Gate, end: int) -> str:
    """Sign with the key, so that the cookie does not reveal the token; over the token, so that both end together."""
    return hmac.new(gate.key, f"gesso cookie for {gate.token} until {end}".encode(), hashlib.sha256).hexdigest()


def _cookie_is_valid(value: str, gate: Gate, now: float) -> bool:
    end, _, signature = value.partition(".")
    if not (end.isascii() and end.isdigit() and len(end) < 12):
        return False
    return _equal(signature, _signature(gate, int(end))) and now < int(end)


def _cookie_value(header: str, name: str) -> str:
    """Return the value of one cookie; empty if it is missing.

    As RFC 6265 (4.2.1) has it: pairs separated by `;`. Cookies of other programs on the same host are not parsed: one
    that is invalid must not hide ours.
    """
    pairs = (pair.strip(" \t").partition("=") for pair in header.split(";"))
    return next((value.strip(' \t"') for key, equals, value in pairs if equals and key.strip(" \t") == name), "")


def _passes_csrf_check(request: AccessRequest, gate: Gate) -> bool:
    """Return whether this comes from our own page, or from a typed URL or a followed link.

    Browsers send Sec-Fetch-Site only to servers with TLS and to their own machine. Over plain HTTP a read without
    Origin passes: a neighbour's page can cause it, but cannot see the answer (Cross-Origin-Resource-Policy, no CORS).
    """
    site, mode, dest = (request.header(f"sec-fetch-{name}") for name in ("site", "mode", "dest"))
    if site == "same-origin":  # no page can set it; behind another proxy, scheme and host differ from those seen here
        return True
    changes = request.method not in _SAFE or request.header("upgrade").lower() == "websocket"
    origin = request.header("origin")
    if origin and normalised(origin) not in _own_origins(request, gate):
        return False
    if changes:
        return not site and bool(origin)
    return site in {"", "none"} or (mode == "navigate" and dest == "document")


def _own_origins(request: AccessRequest, gate: Gate) -> set[str]:
    own = normalised(f"http{'s' * gate.secure}://{request.header('host')}")
    return {origin for origin in (own, gate.public) if origin}
