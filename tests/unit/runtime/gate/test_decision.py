"""The gate's decision: three doors, and everything that looks like one."""

from __future__ import annotations

import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.runtime.gate.decision import ONWARD, Answer, Asked, cookie_name, decide

TOKEN = "right-token-0123456789"
NOW = 1_800_000_000.0
HOST = "203.0.113.9:40123"


def _ask(uri: str = "/", method: str = "GET", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return decide(Asked(method, uri, {"host": HOST, **named}), TOKEN, NOW)


def _cookie(now: float = NOW) -> str:
    answer = decide(Asked("GET", f"/?token={TOKEN}", {"host": HOST}), TOKEN, now)
    return answer.headers["Set-Cookie"].partition(";")[0]


OWN = {"sec_fetch_site": "same-origin", "origin": f"http://{HOST}"}


@pytest.mark.parametrize("rest", ["/", "/object_info", "/ws?clientId=1", "//x", "/gesso/", "/a%2Fb", "/../x"])
def test_the_path_opens(rest: str) -> None:
    assert _ask(f"/{TOKEN}{rest}") == Answer(200, "path")
    assert _ask(f"/{TOKEN}{rest}", "POST", sec_fetch_site="cross-site", origin="http://evil.example").passed == "path"


def test_the_bare_path_leads_on() -> None:
    assert _ask(f"/{TOKEN}") == Answer(308, headers={"Location": f"/{TOKEN}/"})
    assert _ask(f"/{TOKEN}?a=b").headers == {"Location": f"/{TOKEN}/?a=b"}


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN} "])
def test_bearer_opens(given: str) -> None:
    assert _ask("/x", "DELETE", authorization=given) == Answer(200, "bearer")


WRONG = [
    "", "wrong-token-0123456789", TOKEN[:-1], f"{TOKEN}x", TOKEN.swapcase(), f" {TOKEN}x", "\udcff", "é" * 20,
    TOKEN[::-1],
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_tokens(wrong: str) -> None:
    no = Answer(401, page="who", headers={"WWW-Authenticate": 'Bearer realm="gesso"'})
    assert _ask(f"/{wrong}/object_info") == no
    assert _ask(f"/{wrong}") == no
    assert _ask("/", authorization=f"Bearer {wrong}") == no
    assert _ask(f"/?token={wrong}") == no
    assert _ask("/", cookie=f"{cookie_name(TOKEN)}={wrong}") == no


@pytest.mark.parametrize(
    "uri", [f"//{TOKEN}/x", f"/x/{TOKEN}/", f"/./{TOKEN}/", f"/%72{TOKEN[1:]}/", f"/a?b=/{TOKEN}/", f"/?Token={TOKEN}"]
)
def test_what_is_no_door(uri: str) -> None:
    assert _ask(uri).status == 401


@pytest.mark.parametrize("given", [TOKEN, f"Basic {TOKEN}", f"Bearer:{TOKEN}", f"x Bearer {TOKEN}"])
def test_other_schemes_are_no_door(given: str) -> None:
    assert _ask(authorization=given).status == 401


def test_it_compares_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = hmac.compare_digest

    def compare(a: Any, b: Any) -> bool:
        compared.append(b)
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    end = int(NOW) + 60
    _ask("/wrong/?token=wrong", authorization="Bearer wrong", cookie=f"{cookie_name(TOKEN)}={end}.wrong")
    assert compared[:3] == [TOKEN.encode()] * 3
    assert len(compared) == 4


# --- the cookie


def test_the_query_sets_a_cookie_that_is_not_the_token() -> None:
    answer = _ask(f"/?token={TOKEN}")
    assert (answer.status, answer.passed, answer.headers[ONWARD]) == (200, "welcome", "/gesso/")
    cookie = answer.headers["Set-Cookie"]
    assert TOKEN not in cookie
    assert cookie.endswith("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict")
    over_tls = decide(Asked("GET", f"/?token={TOKEN}", {}, secure=True), TOKEN, NOW)
    assert over_tls.headers["Set-Cookie"].endswith("; Secure")


@pytest.mark.parametrize(
    ("uri", "onward"),
    [
        (f"/?token={TOKEN}&a=b", "/gesso/?a=b"),
        (f"/view?a=b&token={TOKEN}&c=", "/view?a=b&c="),
        (f"//evil.example/?token={TOKEN}", "/evil.example/"),
        (f"/\\evil.example?token={TOKEN}", "/evil.example"),
        (f"/<script>?token={TOKEN}", "/%3Cscript%3E"),
    ],
)
def test_it_leads_on_without_the_token_and_never_away(uri: str, onward: str) -> None:
    assert _ask(uri).headers[ONWARD] == onward


def test_only_reading_with_the_query() -> None:
    assert _ask(f"/?token={TOKEN}", "HEAD").passed == "welcome"
    assert _ask(f"/?token={TOKEN}", "POST").status == 401


def test_the_cookie_opens_until_its_end() -> None:
    assert _ask("/", cookie=_cookie()).passed == "cookie"
    assert _ask("/", cookie=f"a=b; {_cookie()}; c=d").passed == "cookie"
    assert _ask("/", cookie=_cookie(NOW - 29 * 86400)).passed == "cookie"
    assert _ask("/", cookie=_cookie(NOW - 31 * 86400)).status == 401


@pytest.mark.parametrize("value", ["", ".", "x.y", "9" * 40 + ".a", "-1.a", "١٢.a", "1.2.3", "1800000099."])
def test_broken_cookies(value: str) -> None:
    assert _ask("/", cookie=f"{cookie_name(TOKEN)}={value}").status == 401


def test_a_cookie_with_another_end_does_not_open() -> None:
    name, _, value = _cookie().partition("=")
    end, _, signature = value.partition(".")
    assert _ask("/", cookie=f"{name}={int(end) + 1}.{signature}").status == 401


def test_another_instance_on_the_same_host_has_another_cookie() -> None:
    assert cookie_name(TOKEN) != cookie_name("other-token-0123456789")


CSRF: dict[str, tuple[str, dict[str, str], bool]] = {
    "our page posts": ("POST", OWN, True),
    "an older browser's, by its Origin": ("POST", {"origin": f"http://{HOST}"}, True),
    "by the host's own name": ("POST", {"origin": f"https://{HOST.upper()}", "sec_fetch_site": "same-origin"}, True),
    "another site posts": ("POST", {"origin": "http://evil.example", "sec_fetch_site": "cross-site"}, False),
    "a neighbour on another port posts": (
        "POST", {"origin": "http://203.0.113.9:1", "sec_fetch_site": "same-site"}, False,
    ),
    "a page without an origin posts": ("POST", {"origin": "null", "sec_fetch_site": "cross-site"}, False),
    "nobody says where it is from": ("POST", {}, False),
    "an address bar does not post": ("POST", {"sec_fetch_site": "none"}, False),
    "lying Origin, honest browser": ("DELETE", {"origin": f"http://{HOST}", "sec_fetch_site": "cross-site"}, False),
    "PUT": ("PUT", {"sec_fetch_site": "same-site"}, False),
    "our page's websocket": ("GET", {"upgrade": "websocket", **OWN}, True),
    "our page's websocket, older browser": ("GET", {"upgrade": "WebSocket", "origin": f"http://{HOST}"}, True),
    "another site's websocket": ("GET", {"upgrade": "websocket", "origin": "http://evil.example"}, False),
    "a websocket without an origin": ("GET", {"upgrade": "websocket"}, False),
    "a link from elsewhere": (
        "GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}, True,
    ),
    "a frame elsewhere": (
        "GET", {"sec_fetch_site": "same-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}, False,
    ),
    "a picture elsewhere": (
        "GET", {"sec_fetch_site": "same-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"}, False,
    ),
    "an address bar": ("GET", {"sec_fetch_site": "none"}, True),
    "a plain client with a cookie jar reads": ("GET", {}, True),
}  # fmt: skip


@pytest.mark.parametrize(("method", "headers", "passes"), CSRF.values(), ids=CSRF.keys())
def test_what_the_cookie_opens_comes_from_us(method: str, headers: dict[str, str], passes: bool) -> None:
    answer = _ask("/prompt", method, cookie=_cookie(), **headers)
    assert answer == (Answer(200, "cookie") if passes else Answer(403, page="foreign"))


# --- one other origin


ADMIN = "https://admin.example"
ASKS = {"origin": ADMIN, "access-control-request-method": "POST"}


def _ask_ahead(uri: str, admin: str = ADMIN, method: str = "OPTIONS", **changes: str) -> Answer:
    headers = {"host": HOST, **ASKS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return decide(Asked(method, uri, headers), TOKEN, NOW, admin)


@pytest.mark.parametrize("way", ["", f"/{TOKEN}"])
@pytest.mark.parametrize("path", ["", "/heal", "/reports/20260714-093000-5f0c2a", "/openapi.json", "/heal?after=1"])
def test_a_page_of_the_admins_origin_may_ask_ahead(way: str, path: str) -> None:
    answer = _ask_ahead(f"{way}/gesso/api{path}")
    assert (answer.status, answer.passed) == (200, "preflight")
    assert answer.headers["Access-Control-Allow-Origin"] == ADMIN
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert TOKEN not in str(answer)


AHEAD: dict[str, tuple[str, dict[str, str]]] = {
    "no origin is named": ("/gesso/api/heal", {"admin": ""}),
    "no origin is named, and none asks": ("/gesso/api/heal", {"admin": "", "origin": ""}),
    "another origin": ("/gesso/api/heal", {"origin": "https://evil.example"}),
    "one that begins like it": ("/gesso/api/heal", {"origin": f"{ADMIN}.evil"}),
    "no origin": ("/gesso/api/heal", {"origin": ""}),
    "it asks for no method": ("/gesso/api/heal", {"access_control_request_method": ""}),
    "no question": ("/gesso/api/heal", {"method": "POST"}),
    "ComfyUI": ("/prompt", {}),
    "the page": ("/gesso/", {}),
    "a name that begins like it": ("/gesso/apis/heal", {}),
    "a way out": ("/gesso/api/../../prompt", {}),
    "a hidden way out": ("/gesso/api/%2e%2e/prompt", {}),
    "a way out by slashes": ("/gesso/api//prompt", {}),
    "a wrong token before it": ("/wrong-token-0123456789/gesso/api/heal", {}),
    "a token twice": (f"/x/{TOKEN}/gesso/api/heal", {}),
}


@pytest.mark.parametrize(("uri", "changes"), AHEAD.values(), ids=AHEAD.keys())
def test_nobody_else_and_nothing_else_is_asked_ahead(uri: str, changes: dict[str, str]) -> None:
    assert _ask_ahead(uri, **changes).status == 401


def test_the_admins_origin_needs_the_token_all_the_same() -> None:
    for headers in ({"cookie": _cookie()}, {}):
        answer = decide(Asked("POST", "/gesso/api/heal", {"host": HOST, "origin": ADMIN, **headers}), TOKEN, NOW, ADMIN)
        assert answer.status == (403 if headers else 401)


@given(st.text(), st.sampled_from(["GET", "POST"]), st.text(), st.text(), st.text())
def test_nothing_gets_in_or_crashes_it(uri: str, method: str, authorization: str, cookie: str, origin: str) -> None:
    headers = {"authorization": authorization, "cookie": cookie, "origin": origin, "host": HOST}
    assert decide(Asked(method, uri, headers), TOKEN, NOW, ADMIN).status == 401
