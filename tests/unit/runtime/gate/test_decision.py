"""The gate's decision: three access methods, and everything that looks like one."""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.runtime.gate.decision import ONWARD, AccessRequest, Decision, Gate, cookie_name, decide

TOKEN = "right-token-0123456789"
KEY = b"k" * 32
GATE = Gate(TOKEN, KEY)
NOW = 1_800_000_000.0
HOST = "203.0.113.9:40123"


def _ask(uri: str = "/", method: str = "GET", **headers: str) -> Decision:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return decide(AccessRequest(method, uri, {"host": HOST, **named}), GATE, NOW)


def _cookie(now: float = NOW) -> str:
    answer = decide(AccessRequest("GET", f"/?token={TOKEN}", {"host": HOST}), GATE, now)
    return answer.headers["Set-Cookie"].partition(";")[0]


OWN = {"sec_fetch_site": "same-origin", "origin": f"http://{HOST}"}


@pytest.mark.parametrize("rest", ["/", "/object_info", "/ws?clientId=1", "//x", "/gesso/", "/a%2Fb", "/../x"])
def test_the_path_grants_access(rest: str) -> None:
    assert _ask(f"/{TOKEN}{rest}") == Decision(200, "path")
    assert _ask(f"/{TOKEN}{rest}", "POST", sec_fetch_site="cross-site", origin="http://evil.example").passed == "path"


def test_the_bare_path_redirects() -> None:
    assert _ask(f"/{TOKEN}") == Decision(308, headers={"Location": f"/{TOKEN}/"})
    assert _ask(f"/{TOKEN}?a=b").headers == {"Location": f"/{TOKEN}/?a=b"}


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN} "])
def test_bearer_grants_access(given: str) -> None:
    assert _ask("/x", "DELETE", authorization=given) == Decision(200, "bearer")


WRONG = [
    "", "wrong-token-0123456789", TOKEN[:-1], f"{TOKEN}x", TOKEN.swapcase(), f" {TOKEN}x", "\udcff", "é" * 20,
    TOKEN[::-1],
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_tokens(wrong: str) -> None:
    asked = [
        _ask(f"/{wrong}/object_info"), _ask(f"/{wrong}"), _ask("/", authorization=f"Bearer {wrong}"),
        _ask(f"/?token={wrong}"), _ask("/", cookie=f"{cookie_name(KEY)}={wrong}"),
    ]  # fmt: skip
    for answer in asked:
        assert (answer.status, answer.passed, answer.page) == (401, "", "unauthorized")
        assert answer.headers == {"WWW-Authenticate": 'Bearer realm="gesso"'}


@pytest.mark.parametrize(
    "uri", [f"//{TOKEN}/x", f"/x/{TOKEN}/", f"/./{TOKEN}/", f"/%72{TOKEN[1:]}/", f"/a?b=/{TOKEN}/", f"/?Token={TOKEN}"]
)
def test_misplaced_tokens_are_refused(uri: str) -> None:
    assert _ask(uri).status == 401


@pytest.mark.parametrize("given", [TOKEN, f"Basic {TOKEN}", f"Bearer:{TOKEN}", f"x Bearer {TOKEN}"])
def test_other_schemes_are_refused(given: str) -> None:
    assert _ask(authorization=given).status == 401


def test_it_compares_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = hmac.compare_digest

    def compare(a: Any, b: Any) -> bool:
        compared.append(b)
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    end = int(NOW) + 60
    _ask("/wrong/?token=wrong", authorization="Bearer wrong", cookie=f"{cookie_name(KEY)}={end}.wrong")
    assert compared[:3] == [TOKEN.encode()] * 3
    assert compared[4:] == [TOKEN.encode()], "whether a token pasted into Krita with ?token= is a wrong one"


# --- the cookie


def test_the_query_sets_a_cookie_that_is_not_the_token() -> None:
    answer = _ask(f"/?token={TOKEN}")
    assert (answer.status, answer.passed, answer.headers[ONWARD]) == (200, "welcome", "/gesso/")
    cookie = answer.headers["Set-Cookie"]
    assert TOKEN not in cookie
    assert cookie.endswith("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict")
    over_tls = decide(AccessRequest("GET", f"/?token={TOKEN}", {}), replace(GATE, secure=True), NOW)
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
def test_it_goes_on_without_the_token_and_stays_on_the_host(uri: str, onward: str) -> None:
    assert _ask(uri).headers[ONWARD] == onward


def test_only_reading_with_the_query() -> None:
    assert _ask(f"/?token={TOKEN}", "HEAD").passed == "welcome"
    assert _ask(f"/?token={TOKEN}", "POST").status == 401


def test_the_cookie_is_valid_until_its_end() -> None:
    assert _ask("/", cookie=_cookie()).passed == "cookie"
    assert _ask("/", cookie=f"a=b; {_cookie()}; c=d").passed == "cookie"
    assert _ask("/", cookie=_cookie(NOW - 29 * 86400)).passed == "cookie"
    assert _ask("/", cookie=_cookie(NOW - 31 * 86400)).status == 401


@pytest.mark.parametrize("value", ["", ".", "x.y", "9" * 40 + ".a", "-1.a", "١٢.a", "1.2.3", "1800000099."])
def test_broken_cookies(value: str) -> None:
    assert _ask("/", cookie=f"{cookie_name(KEY)}={value}").status == 401


def test_a_cookie_with_an_altered_end_is_refused() -> None:
    name, _, value = _cookie().partition("=")
    end, _, signature = value.partition(".")
    assert _ask("/", cookie=f"{name}={int(end) + 1}.{signature}").status == 401


@pytest.mark.parametrize(
    "neighbour",
    [
        'a="unclosed',
        "a=b c",
        "a={}",
        'sid={"x":1}',
        "bad key=1",
        "=x",
        "a",
        "a=\xe9",
        "a[0]=1",
        'a="b;c"',
        "a@b=1",
        "a=,;,",
    ],
)
def test_a_neighbours_cookie_does_not_hide_ours(neighbour: str) -> None:
    """Browsers send the cookies of every program on a host, and not all of them keep to a grammar."""
    assert _ask("/", cookie=f"{neighbour}; {_cookie()}").passed == "cookie"
    assert _ask("/", cookie=f"{_cookie()}; {neighbour}").passed == "cookie"
    assert _ask("/", cookie=f"{_cookie()};{neighbour};").passed == "cookie"


def test_a_cookie_of_another_name_does_not_open() -> None:
    name, _, value = _cookie().partition("=")
    for other in (f"x{name}={value}", f"{name}x={value}", f"x={name}={value}", f"{name}", value):
        assert _ask("/", cookie=other).status == 401


def test_the_cookie_depends_on_the_key_and_on_the_token_but_is_not_derived_from_the_token_alone() -> None:
    """Otherwise whoever sees the cookie could test guesses of a chosen token, as fast as a computer can."""
    request = AccessRequest("GET", "/", {"host": HOST, "cookie": _cookie()})
    assert decide(request, GATE, NOW).passed == "cookie"
    assert decide(request, replace(GATE, key=b"o" * 32), NOW).status == 401
    assert decide(request, replace(GATE, token="other-token-0123456789"), NOW).status == 401
    name, _, value = _cookie().partition("=")
    renamed = {"host": HOST, "cookie": f"{cookie_name(b'o' * 32)}={value}"}
    assert decide(AccessRequest("GET", "/", renamed), replace(GATE, key=b"o" * 32), NOW).status == 401
    assert name == cookie_name(KEY)


GUESSES: dict[str, tuple[str, dict[str, str], bool]] = {
    "nothing": ("/", {}, False),
    "a path of ComfyUI": ("/object_info", {}, False),
    "a path that looks like a token": ("/wrong-token-0123456789/x", {}, True),
    "a Bearer token": ("/", {"authorization": "Bearer x"}, True),
    "another scheme": ("/", {"authorization": "Basic eDp5"}, True),
    "a token in the query": ("/?token=x", {}, True),
    "an empty token in the query": ("/?token=", {}, False),
    "our cookie": ("/", {"cookie": f"{cookie_name(KEY)}=1.x"}, True),
    "another cookie": ("/", {"cookie": "gesso-00000000=1.x"}, False),
    "Krita with the right token in the query": (f"/?token={TOKEN}/system_stats", {}, False),
    "Krita with a wrong token in the query": ("/?token=x/system_stats", {}, True),
}


@pytest.mark.parametrize(("uri", "headers", "guessed"), GUESSES.values(), ids=GUESSES.keys())
def test_what_counts_as_a_guess(uri: str, headers: dict[str, str], guessed: bool) -> None:
    answer = _ask(uri, **headers)
    assert (answer.status, answer.guessed) == (401, guessed)


def test_what_passes_is_no_guess() -> None:
    assert not _ask(f"/{TOKEN}/x").guessed
    assert not _ask("/wrong-token-0123456789/x", authorization=f"Bearer {TOKEN}").guessed


def test_the_token_in_the_query_as_kritas_address_gets_what_to_paste() -> None:
    """Krita appends its paths to the whole URL; whether the token is right does not matter for the answer."""
    for token in (TOKEN, "wrong-token-0123456789"):
        assert _ask(f"/?token={token}/system_stats").page == "paste-path"
        assert _ask(f"/?token={token}/api/etn/languages").status == 401
    assert _ask("/?token=wrong-token-0123456789").page == "unauthorized"


@pytest.mark.parametrize("address", [f"/{TOKEN}/", f"/{TOKEN}", f"/{TOKEN}/gesso/"])
def test_the_token_in_path_and_query_as_kritas_address_gets_what_to_paste(address: str) -> None:
    """Krita appends its paths to the query: ComfyUI would answer each with its start page."""
    refused = _ask(f"{address}?token={TOKEN}/system_stats")
    assert (refused.status, refused.passed, refused.page, refused.guessed) == (401, "", "paste-path", False)
    assert refused.headers == {"WWW-Authenticate": 'Bearer realm="gesso"'}


@pytest.mark.parametrize(
    "query", [f"token={TOKEN}", "token=other/x", f"other={TOKEN}/x", f"token={TOKEN}x/y", "token=/"]
)
def test_with_the_token_in_the_path_other_queries_are_comfyuis(query: str) -> None:
    assert _ask(f"/{TOKEN}/view?{query}") == Decision(200, "path")


def test_another_instance_on_the_same_host_has_another_cookie() -> None:
    assert cookie_name(KEY) != cookie_name(b"o" * 32)


CSRF: dict[str, tuple[str, dict[str, str], bool]] = {
    "our page posts": ("POST", OWN, True),
    "an older browser's, by its Origin": ("POST", {"origin": f"http://{HOST}"}, True),
    "by the host's own name": ("POST", {"origin": f"http://{HOST.upper()}"}, True),
    "behind a proxy with TLS": ("POST", {"origin": "https://other.example", "sec_fetch_site": "same-origin"}, True),
    "another scheme": ("POST", {"origin": f"https://{HOST}"}, False),
    "the host without a scheme": ("POST", {"origin": HOST}, False),
    "another site reads": ("GET", {"origin": "http://evil.example"}, False),
    "another port reads": ("GET", {"origin": "http://203.0.113.9:1"}, False),
    "another site posts": ("POST", {"origin": "http://evil.example", "sec_fetch_site": "cross-site"}, False),
    "a neighbour on another port posts": (
        "POST", {"origin": "http://203.0.113.9:1", "sec_fetch_site": "same-site"}, False,
    ),
    "a page without an origin posts": ("POST", {"origin": "null", "sec_fetch_site": "cross-site"}, False),
    "no origin headers": ("POST", {}, False),
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
def test_the_cookie_is_valid_only_for_our_own_page(method: str, headers: dict[str, str], passes: bool) -> None:
    answer = _ask("/prompt", method, cookie=_cookie(), **headers)
    assert answer == (Decision(200, "cookie") if passes else Decision(403, page="cross-site"))


@pytest.mark.parametrize(
    ("gate", "host", "origin", "passes"),
    [
        (GATE, "a.example", "http://a.example", True),
        (GATE, "a.example:80", "http://a.example", True),
        (GATE, "a.example", "http://a.example:80", True),
        (GATE, "a.example", "https://a.example", False),
        (GATE, "a.example:443", "https://a.example", False),
        (GATE, "", "http://", False),
        (GATE, "", "null", False),
        (replace(GATE, secure=True), "a.example:443", "https://a.example", True),
        (replace(GATE, secure=True), "a.example", "http://a.example", False),
        (replace(GATE, public="https://p.example"), "10.0.0.1:8188", "https://p.example", True),
        (replace(GATE, public="https://p.example"), "10.0.0.1:8188", "http://p.example", False),
        (replace(GATE, public="https://p.example"), "10.0.0.1:8188", "http://10.0.0.1:8188", True),
    ],
)
def test_the_origin_is_compared_with_its_scheme(gate: Gate, host: str, origin: str, passes: bool) -> None:
    cookie = decide(AccessRequest("GET", f"/?token={TOKEN}", {}), gate, NOW).headers["Set-Cookie"].partition(";")[0]
    answer = decide(AccessRequest("POST", "/prompt", {"host": host, "origin": origin, "cookie": cookie}), gate, NOW)
    assert answer.passed == ("cookie" if passes else "")


# --- one other origin


ADMIN = "https://admin.example"
PREFLIGHT = {"origin": ADMIN, "access-control-request-method": "POST"}


def _preflight(uri: str, admin: str = ADMIN, method: str = "OPTIONS", **changes: str) -> Decision:
    headers = {"host": HOST, **PREFLIGHT, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return decide(AccessRequest(method, uri, headers), replace(GATE, admin=admin), NOW)


@pytest.mark.parametrize("way", ["", f"/{TOKEN}"])
@pytest.mark.parametrize("path", ["", "/heal", "/reports/20260714-093000-5f0c2a", "/openapi.json", "/heal?after=1"])
def test_a_page_of_the_admin_origin_may_send_a_preflight(way: str, path: str) -> None:
    answer = _preflight(f"{way}/gesso/api{path}")
    assert (answer.status, answer.passed) == (200, "preflight")
    assert answer.headers["Access-Control-Allow-Origin"] == ADMIN
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert TOKEN not in str(answer)


REFUSED_PREFLIGHTS: dict[str, tuple[str, dict[str, str]]] = {
    "no admin origin is set": ("/gesso/api/heal", {"admin": ""}),
    "no admin origin is set, and no origin sent": ("/gesso/api/heal", {"admin": "", "origin": ""}),
    "another origin": ("/gesso/api/heal", {"origin": "https://evil.example"}),
    "one that begins like it": ("/gesso/api/heal", {"origin": f"{ADMIN}.evil"}),
    "no origin": ("/gesso/api/heal", {"origin": ""}),
    "no method is requested": ("/gesso/api/heal", {"access_control_request_method": ""}),
    "not a preflight": ("/gesso/api/heal", {"method": "POST"}),
    "ComfyUI": ("/prompt", {}),
    "the page": ("/gesso/", {}),
    "a name that begins like it": ("/gesso/apis/heal", {}),
    "a way out": ("/gesso/api/../../prompt", {}),
    "a hidden way out": ("/gesso/api/%2e%2e/prompt", {}),
    "a way out by slashes": ("/gesso/api//prompt", {}),
    "a wrong token before it": ("/wrong-token-0123456789/gesso/api/heal", {}),
    "a token twice": (f"/x/{TOKEN}/gesso/api/heal", {}),
}


@pytest.mark.parametrize(("uri", "changes"), REFUSED_PREFLIGHTS.values(), ids=REFUSED_PREFLIGHTS.keys())
def test_other_preflights_are_refused(uri: str, changes: dict[str, str]) -> None:
    assert _preflight(uri, **changes).status == 401


def test_the_admin_origin_needs_the_token_too() -> None:
    for headers in ({"cookie": _cookie()}, {}):
        answer = decide(
            AccessRequest("POST", "/gesso/api/heal", {"host": HOST, "origin": ADMIN, **headers}),
            replace(GATE, admin=ADMIN),
            NOW,
        )
        assert answer.status == (403 if headers else 401)


@given(st.text(), st.sampled_from(["GET", "POST"]), st.text(), st.text(), st.text())
def test_arbitrary_requests_are_refused_without_a_crash(
    uri: str, method: str, authorization: str, cookie: str, origin: str
) -> None:
    headers = {"authorization": authorization, "cookie": cookie, "origin": origin, "host": HOST}
    assert decide(AccessRequest(method, uri, headers), replace(GATE, admin=ADMIN), NOW).status == 401
