"""The gate's decision: who may pass, by which door, and what everybody else is told. Pure, and in constant time.

Doors: the token as the first part of the path (what Krita keeps on HTTP and websocket), `Authorization: Bearer`, and a
cookie that `?token=` sets. The cookie is not the token but a signature by it, with an end: browsers send cookies to
every port of a host, and on Vast.ai other people's instances are on other ports of the same one. For the same reason
what the cookie opens must come from this very origin: SameSite alone lets a neighbour's page act.

One other origin may be named (`GESSO_ADMIN_ORIGIN`): what its pages ask of the API in advance is answered, and no more.
A browser sends that question without the token, so that it opens nothing; the request itself comes by path or Bearer.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
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
class Asked:
    """A request as the gate saw it. `headers` by lower-case name; `uri` undecoded, with its query."""

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
        """What comes after the question mark."""
        return self.uri.partition("?")[2]

    def header(self, name: str) -> str:
        """Give a header, or nothing."""
        return self.headers.get(name, "")


@dataclass(frozen=True)
class Answer:
    """What the gate does: `passed` names the door, else `page` is what the client is told.

    The door "welcome" leads to the page that sets the cookie, the door "preflight" to an empty answer, with `headers`.
    """

    status: int
    passed: Literal["path", "bearer", "cookie", "welcome", "preflight", ""] = ""
    page: Literal["who", "foreign", ""] = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def decide(asked: Asked, token: str, now: float, admin: str = "") -> Answer:
    """Decide about one request at `now` (seconds since the epoch). `admin`: the one other origin, or nothing."""
    first, slash, rest = asked.path.removeprefix("/").partition("/")
    known = _same(first, token)
    if admin and _preflight(asked, f"/{rest}" if known else asked.path, admin):
        return Answer(200, "preflight", headers={"Access-Control-Allow-Origin": admin, **ADMIN_HEADERS})
    if known:
        if slash:
            return Answer(200, "path")
        query = f"?{asked.query}" if asked.query else ""
        return Answer(308, headers={"Location": f"/{token}/{query}"})
    return _without_the_path(asked, token, now)


def _without_the_path(asked: Asked, token: str, now: float) -> Answer:
    scheme, _, given = asked.header("authorization").partition(" ")
    if _same(given.strip(), token) and scheme.lower() == "bearer":
        return Answer(200, "bearer")
    if asked.method in {"GET", "HEAD"} and _token_in(asked.query, token):
        return _welcome(asked, token, now)
    if _cookie_holds(asked, token, now):
        return Answer(200, "cookie") if _own(asked) else Answer(403, page="foreign")
    return Answer(401, page="who", headers={"WWW-Authenticate": 'Bearer realm="gesso"'})


def _same(given: str, token: str) -> bool:
    """Compare without telling by the time how much of it was right."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def _preflight(asked: Asked, path: str, admin: str) -> bool:
    """Tell whether a browser asks whether a page of that origin may use the API."""
    asks = asked.method == "OPTIONS" and bool(asked.header("access-control-request-method"))
    return asks and asked.header("origin") == admin and _API.match(path) is not None


def _token_in(query: str, token: str) -> bool:
    return _same(next((value for name, value in _pairs(query) if name == "token"), ""), token)


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return []


def _welcome(asked: Asked, token: str, now: float) -> Answer:
    """Set the cookie and lead on to the address without the token.

    Not by a redirect: one that began on another site (Vast's Open button) would not carry a SameSite=Strict cookie.
    """
    rest = urlencode([pair for pair in _pairs(asked.query) if pair[0] != "token"])
    local = "/" + asked.path.lstrip("/\\")  # two slashes would lead to another host
    path = "/gesso/" if local == "/" else quote(local, safe="/%~!$&'()*+,;=:@")
    end = int(now) + COOKIE_DAYS * _DAY
    flags = f"Path=/; Max-Age={COOKIE_DAYS * _DAY}; HttpOnly; SameSite=Strict{'; Secure' * asked.secure}"
    cookie = f"{cookie_name(token)}={end}.{_signature(token, end)}; {flags}"
    onward = f"{path}?{rest}" if rest else path
    return Answer(200, "welcome", headers={"Set-Cookie": cookie, ONWARD: onward})


def cookie_name(token: str) -> str:
    """Name the cookie after the instance: those on other ports of the same host have others."""
    return f"gesso-{hashlib.sha256(b'name ' + token.encode()).hexdigest()[:8]}"


def _signature(token: str, end: int) -> str:
    return hmac.new(token.encode(), f"gesso cookie until {end}".encode(), hashlib.sha256).hexdigest()


def _cookie_holds(asked: Asked, token: str, now: float) -> bool:
    try:
        found = SimpleCookie(asked.header("cookie")).get(cookie_name(token))
    except CookieError:
        return False
    if found is None:
        return False
    end, _, signature = found.value.partition(".")
    if not (end.isascii() and end.isdigit() and len(end) < 12):
        return False
    return _same(signature, _signature(token, int(end))) and now < int(end)


def _own(asked: Asked) -> bool:
    """Tell whether our own page, or a person who typed the address or followed a link, sent this: CSRF is neither."""
    site, mode, wanted = (asked.header(f"sec-fetch-{name}") for name in ("site", "mode", "dest"))
    changes = asked.method not in _SAFE or asked.header("upgrade").lower() == "websocket"
    origin = asked.header("origin")
    if origin and urlsplit(origin).netloc.lower() != asked.header("host").lower():
        return False
    if changes:
        return site == "same-origin" or (not site and bool(origin))
    return site in {"", "same-origin", "none"} or (mode == "navigate" and wanted == "document")
