"""What the agent answers to Caddy: the words of each refusal, Krita's first call, and slowed guesses."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from gesso.runtime.gate import forward_auth
from gesso.runtime.gate.decision import Gate
from gesso.runtime.gate.throttle import FREE

TOKEN = "right-token-0123456789"
COMING = "Models are coming: 43 %, about 6 minutes"
HTML = {"Accept": "text/html,application/xhtml+xml"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Caddy:
    """Sends what Caddy sends; `coming` is what keeps Krita from working."""

    def __init__(self) -> None:
        self.coming, self.asked = "", 0
        door = forward_auth.ForwardAuth(Gate(TOKEN, b"k" * 32), self._models_coming)
        self._client = TestClient(Starlette(routes=[Route("/gate", door.respond)]), follow_redirects=False)

    def _models_coming(self) -> str:
        self.asked += 1
        return self.coming

    def ask(self, uri: str, address: str = "203.0.113.9", method: str = "GET", **headers: str) -> Any:
        sent = {"X-Forwarded-Method": method, "X-Forwarded-Uri": uri, "X-Forwarded-For": address, "Accept": "*/*"}
        return self._client.get("/gate", headers={**sent, **headers})


@pytest.fixture
def caddy() -> Caddy:
    return Caddy()


def test_refusals_are_json_unless_html_is_accepted(caddy: Caddy) -> None:
    refused = caddy.ask("/x")
    assert (refused.status_code, refused.headers["Content-Type"]) == (401, "application/json")
    assert refused.json() == {"error": "Token missing or wrong: paste the whole URL, http://HOST:PORT/TOKEN"}
    page = caddy.ask("/x", **HTML)
    assert (page.status_code, page.headers["Content-Type"]) == (401, "text/html; charset=utf-8")
    assert "style-src 'unsafe-inline'" in page.headers["Content-Security-Policy"]
    assert caddy.ask(f"/?token={TOKEN}/system_stats").json()["error"].startswith("Paste http://HOST:PORT/TOKEN")


KRITA = {
    "path": (f"/{TOKEN}/system_stats", {}),
    "pasted page": (f"/{TOKEN}/gesso/system_stats", {}),
    "with a query": (f"/{TOKEN}/system_stats?x=1", {}),
    "bearer": ("/system_stats", BEARER),
    "bearer, pasted page": ("/gesso/system_stats", BEARER),
}


@pytest.mark.parametrize(("uri", "headers"), KRITA.values(), ids=KRITA.keys())
def test_kritas_first_call_waits_for_the_models(caddy: Caddy, uri: str, headers: dict[str, str]) -> None:
    caddy.coming = COMING
    answer = caddy.ask(uri, **headers)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"error": COMING}
    assert "X-Gesso-Door" not in answer.headers
    caddy.coming = ""
    assert caddy.ask(uri, **headers).headers["X-Gesso-Door"]


OTHERS = {
    "the instance's own check": (f"/{TOKEN}/prompt", "GET", {}),
    "Krita's other calls": (f"/{TOKEN}/object_info", "GET", {}),
    "ComfyUI's own page": (f"/{TOKEN}/system_stats", "GET", {"Sec-Fetch-Site": "same-origin"}),
    "ComfyUI's own page, by its API": (f"/{TOKEN}/api/system_stats", "GET", {}),
    "a person": (f"/{TOKEN}/system_stats", "GET", HTML),
    "another method": (f"/{TOKEN}/system_stats", "HEAD", {}),
    "something that begins like it": (f"/{TOKEN}/system_statsx", "GET", {}),
    "the page": (f"/{TOKEN}/gesso/", "GET", {}),
}


@pytest.mark.parametrize(("uri", "method", "headers"), OTHERS.values(), ids=OTHERS.keys())
def test_nothing_else_waits(caddy: Caddy, uri: str, method: str, headers: dict[str, str]) -> None:
    caddy.coming = COMING
    assert caddy.ask(uri, method=method, **headers).status_code == 200
    assert caddy.asked == 0


def test_a_stranger_does_not_see_how_far_the_models_are(caddy: Caddy) -> None:
    caddy.coming = COMING
    for uri in ("/system_stats", "/wrong-token-0123456789/system_stats", "/gesso/system_stats"):
        assert caddy.ask(uri).status_code == 401
    assert caddy.asked == 0


def test_guesses_are_slowed_and_then_not_even_looked_at(caddy: Caddy, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("gesso.runtime.gate.forward_auth.asyncio.sleep", sleep)
    monkeypatch.setattr("gesso.runtime.gate.forward_auth.time.monotonic", lambda: 100.0)
    answers = [caddy.ask(f"/wrong-token-{number:010}/x").status_code for number in range(FREE + 4)]
    assert answers == [401] * (FREE + 3) + [429]
    assert waits == [1.0]
    slowed = caddy.ask(f"/{TOKEN}/x")
    assert (slowed.status_code, slowed.headers["Retry-After"]) == (429, "60")
    assert slowed.json() == {"error": "Too many wrong tokens from this address: wait a minute"}
    assert "<h1>429" in caddy.ask("/", **HTML).text
    assert caddy.ask(f"/{TOKEN}/x", address="198.51.100.1").status_code == 200


def test_no_credential_and_the_right_token_are_never_slowed(caddy: Caddy, monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(seconds: float) -> None:
        pytest.fail(f"slowed by {seconds} s")

    monkeypatch.setattr("gesso.runtime.gate.forward_auth.asyncio.sleep", sleep)
    for _ in range(3 * FREE):
        assert caddy.ask("/object_info").status_code == 401
    assert caddy.ask(f"/{TOKEN}/x").status_code == 200
    for _ in range(3 * FREE):
        assert caddy.ask("/wrong-token-0123456789/x").status_code == 401


def test_the_api_names_the_next_step(caddy: Caddy) -> None:
    assert caddy.ask("/gesso/api/heal").json()["next"].startswith("send Authorization: Bearer")
