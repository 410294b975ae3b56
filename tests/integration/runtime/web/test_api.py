"""The API: checked against its OpenAPI description by schemathesis, and by hand: origins, events, a heal.

The gate's decision comes first, as with Caddy in an image.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from starlette.testclient import TestClient

from gesso.runtime.gate import decision
from gesso.runtime.state import log_files
from gesso.runtime.watch.heals import Healer
from gesso.runtime.web.api import BODY_LIMIT
from gesso.runtime.web.app import application
from gesso.runtime.web.logs import LogReader
from gesso.runtime.web.openapi import document

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from gesso.runtime.layout import Layout
    from tests.unit.runtime.conftest import FakeHeal

TOKEN = "right-token-0123456789"
ADMIN = "https://admin.example"
SECRET, KEY = "hf_secret0123456789", "key-of-a-bucket"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
WRONG = {"kind": "pack", "name": "tooling-nodes", "found": "is gone", "remedy": "restore it", "restart": True}
STATUS: dict[str, Any] = {
    "state": "ready", "why": "Krita can work", "next": "", "models": [], "totals": {"rate": 0}, "versions": {},
    "comfyui": {"up": True, "starts": 1, "published": True}, "disk": {"free": 1, "total": 2},
}  # fmt: skip


class Gated:
    """The application behind the gate's decision, without Caddy."""

    def __init__(self, app: Any, gate: decision.Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        request = decision.AccessRequest(scope["method"], scope["path"], headers)
        passed = decision.decide(request, self._gate, time.time()).passed
        if passed in {"", "preflight"}:
            more = [(b"x-forwarded-method", scope["method"].encode()), (b"x-forwarded-uri", scope["path"].encode())]
            path = "/gate/preflight" if passed else "/gate"
            method = scope["method"] if passed else "GET"
            scope = {**scope, "path": path, "method": method, "headers": [*scope["headers"], *more]}
        elif passed == "path":
            scope = {**scope, "path": scope["path"].removeprefix(f"/{TOKEN}")}
        await self._app(scope, receive, send)


def _gated(layout: Layout, admin: str = "") -> Gated:
    gate = decision.Gate(TOKEN, b"k" * 32, admin=admin)
    reader = LogReader(layout, {"HF_TOKEN": SECRET, "S3_KEY": KEY}, TOKEN)
    return Gated(application(lambda: STATUS, gate, Healer(layout, {}), reader), gate)


@pytest.fixture
def client(layout: Layout, fake_heal: FakeHeal) -> TestClient:
    return TestClient(_gated(layout), headers=BEARER, follow_redirects=False)


@pytest.fixture
def with_admin(layout: Layout, fake_heal: FakeHeal) -> TestClient:
    return TestClient(_gated(layout, ADMIN), follow_redirects=False)


def _until_done(client: TestClient, name: str) -> dict[str, Any]:
    while (found := client.get(f"/gesso/api/reports/{name}").json())["state"] == "running":
        time.sleep(0.02)
    return dict(found)


# --- against its own description


class LateBound:
    """A placeholder for the application: the cases are generated at collection, before it exists."""

    app: Gated

    async def __call__(self, *args: Any) -> None:
        await self.app(*args)


schema = schemathesis.openapi.from_dict(document())
schema.app = LateBound()


@pytest.fixture
def described(layout: Layout, fake_heal: FakeHeal, client: TestClient) -> None:
    """Provide a finished heal and a log under the names that the description gives as examples."""
    fake_heal.finds(WRONG, {**WRONG, "kind": "model", "name": "a", "repairable": False, "next_step": "buy a disk"})
    fake_heal.go_on()
    name = client.post("/gesso/api/heal").json()["id"]
    _until_done(client, name)
    for suffix in (".json", ".jsonl"):
        (layout.reports / f"{name}{suffix}").rename(layout.reports / f"20260714-093000-5f0c2a{suffix}")
    layout.logs.mkdir(exist_ok=True)
    (layout.logs / "agent.log").write_text("one\ntwo\n")
    schema.app.app = _gated(layout)


@schema.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_it_is_as_described(case: schemathesis.Case[Any], described: None) -> None:
    case.call_and_validate(headers=BEARER)


def test_the_description_describes_everything(client: TestClient) -> None:
    served = client.get("/gesso/api/openapi.json").json()
    assert served == document()
    app = application(
        lambda: STATUS, decision.Gate(TOKEN, b"k" * 32), Healer.__new__(Healer), LogReader.__new__(LogReader)
    )
    (mount,) = [route for route in app.routes if getattr(route, "path", "") == "/gesso/api"]
    routes = {(f"/gesso/api{route.path}", m.lower()) for route in mount.routes for m in route.methods - {"HEAD"}}  # type: ignore[attr-defined]
    described = {
        (path, m) for path, item in served["paths"].items() for m in item if m in {"get", "post", "put", "delete"}
    }
    assert routes == described


# --- behaviour


def test_a_requested_heal(client: TestClient, layout: Layout, fake_heal: FakeHeal) -> None:
    assert client.get("/gesso/api/heal").json() == {"state": "none"}
    assert client.get("/gesso/api/reports").json() == {"reports": []}
    fake_heal.finds(WRONG, hold="repairing")
    answer = client.post("/gesso/api/heal", json={"dry_run": False}, headers={"sec-fetch-site": "same-origin"})
    name = answer.json()["id"]
    assert (answer.status_code, answer.headers["location"]) == (202, f"reports/{name}")
    assert answer.json() == {"id": name, "state": "running", "dry_run": False, "by": "page"}
    found = client.get(f"/gesso/api/reports/{name}").json()
    assert (found["state"], found["ok"]) == ("running", None)
    second = client.post("/gesso/api/heal")
    assert (second.status_code, second.json()["id"]) == (409, name)
    assert second.json()["error"]
    assert second.json()["next"]
    fake_heal.go_on()
    assert _until_done(client, name)["damages"][0]["outcome"] == "repaired"
    assert client.get("/gesso/api/heal").json()["id"] == name
    (row,) = client.get("/gesso/api/reports").json()["reports"]
    assert (row["id"], row["state"], row["by"], row["ok"]) == (name, "done", "page", True)


@pytest.mark.parametrize(("body", "dry"), [(b"", False), (b"{}", False), (b'{"dry_run": true}', True)])
def test_valid_requests(client: TestClient, body: bytes, dry: bool) -> None:
    headers = {"content-type": "application/json; charset=utf-8"} if body else {}
    answer = client.post("/gesso/api/heal", content=body, headers=headers)
    assert (answer.status_code, answer.json()["dry_run"], answer.json()["by"]) == (202, dry, "api")
    assert _until_done(client, answer.json()["id"])["dry_run"] == dry


JSON = "application/json"
REFUSED: dict[str, tuple[bytes, str, int]] = {
    "no JSON": (b"{", JSON, 400), "not UTF-8": (b'"\xff"', JSON, 400), "a list": (b"[]", JSON, 400),
    "null": (b"null", JSON, 400), "a number": (b'{"dry_run": 1}', JSON, 400), "more": (b'{"dryrun": true}', JSON, 400),
    "deep": (b"[" * BODY_LIMIT, JSON, 400), "a form": (b"dry_run=true", "application/x-www-form-urlencoded", 415),
    "text, as pages elsewhere can send it": (b"{}", "text/plain", 415), "no type": (b"{}", "", 415),
    "large": (b" " * (BODY_LIMIT + 1), JSON, 413),
}  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_invalid_requests(client: TestClient, layout: Layout, body: bytes, kind: str, status: int) -> None:
    answer = client.post("/gesso/api/heal", content=body, headers={"content-type": kind} if kind else {})
    assert answer.status_code == status
    assert answer.json().keys() == {"error", "next"}
    assert not layout.reports.exists()  # nothing was started


def test_a_body_without_a_length(client: TestClient, layout: Layout) -> None:
    parts = (b" " * 1000 for _ in range(10))
    assert client.post("/gesso/api/heal", content=parts, headers={"content-type": JSON}).status_code == 413
    assert not layout.reports.exists()


@pytest.mark.parametrize("name", ["x", "20260101-000000-aaaaaa", "..%2f..%2ftoken", "%00", "a/b", "..", "%0a" * 9])
def test_invalid_ids(client: TestClient, layout: Layout, name: str) -> None:
    (layout.state / "reports").mkdir(parents=True)
    (layout.state / "token.json").write_text('{"secret": 1}')
    for path in (f"/gesso/api/reports/{name}", f"/gesso/api/heal/{name}/events"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("DELETE", "heal", "POST"), ("POST", "status", "GET"), ("PUT", "reports/x", "GET"), ("TRACE", "heal", "GET")],
)
def test_other_methods(client: TestClient, method: str, path: str, allowed: str) -> None:
    answer = client.request(method, f"/gesso/api/{path}")
    assert answer.status_code == 405
    assert allowed in answer.headers["allow"]
    assert answer.json().keys() == {"error", "next"}


@pytest.mark.parametrize("path", ["", "/", "/heal/", "/nothing"])
def test_nothing_redirects_to_a_url_without_the_token(client: TestClient, path: str) -> None:
    assert client.get(f"/gesso/api{path}").status_code == 404


def test_a_heal_that_cannot_be_started(client: TestClient, layout: Layout) -> None:
    layout.logs.write_text("a file in the way")
    answer = client.post("/gesso/api/heal")
    assert answer.status_code == 503
    assert "could not be started" in answer.json()["error"]
    assert answer.json()["next"]


# --- events, over a real socket


@pytest.fixture
def url(layout: Layout, fake_heal: FakeHeal) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    stopping = threading.Event()
    app = application(
        lambda: STATUS,
        decision.Gate(TOKEN, b"k" * 32),
        Healer(layout, {}),
        LogReader(layout, {}, TOKEN),
        stopping=stopping.is_set,
    )
    config = uvicorn.Config(app, ws="none", lifespan="off", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/gesso/api"
    fake_heal.go_on()
    stopping.set()
    server.should_exit = True
    thread.join()
    listening.close()


def _events(answer: requests.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events of a stream as (id, data); the last has no id."""
    name = ""
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        if line.startswith("id: "):
            name = line[4:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])
            name = ""


def test_events_from_the_beginning_live_and_to_the_end(url: str, fake_heal: FakeHeal) -> None:
    fake_heal.finds(WRONG, hold="repairing")
    name = requests.post(f"{url}/heal", timeout=10).json()["id"]
    with requests.get(f"{url}/heal/{name}/events", stream=True, timeout=30) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        events, seen = _events(answer), []
        for after, event in events:
            seen.append((after, event["event"]))
            if event["event"] == "planned":
                fake_heal.go_on()  # live: what follows is written only now
                break
        rest = list(events)
    assert [event for _, event in seen[:2]] == ["asked", "begun"]
    assert rest[-1] == ("", {"state": "done"})
    assert rest[-2][1]["event"] == "ended"
    last = seen[-1][0]
    for resumed in (
        requests.get(f"{url}/heal/{name}/events", headers={"Last-Event-ID": last}, timeout=30),
        requests.get(f"{url}/heal/{name}/events?after={last}", timeout=30),
        requests.get(f"{url}/heal/{name}/events?after=0", headers={"Last-Event-ID": last}, timeout=30),
    ):
        assert list(_events(resumed)) == rest
    complete = [e.get("event") for _, e in _events(requests.get(f"{url}/heal/{name}/events", timeout=30))]
    assert complete[:-1] == [event for _, event in seen] + [event["event"] for _, event in rest[:-1]]
    odd = requests.get(f"{url}/heal/{name}/events", headers={"Last-Event-ID": "-1; x"}, timeout=30)
    assert [e.get("event") for _, e in _events(odd)] == complete
    assert requests.get(f"{url}/heal/{name}/events?after=-1", timeout=30).status_code == 400
    assert requests.head(f"{url}/heal/{name}/events", timeout=30).status_code == 200


def test_the_end_of_a_killed_heal_is_reported(url: str, fake_heal: FakeHeal) -> None:
    fake_heal.finds(WRONG, die="repairing")
    name = requests.post(f"{url}/heal", timeout=10).json()["id"]
    events = list(_events(requests.get(f"{url}/heal/{name}/events", timeout=30)))
    assert [event.get("event") for _, event in events[-2:]] == ["planned", None]
    assert events[-1][1] == {"state": "interrupted"}


# --- one other origin


PREFLIGHT = {"Origin": ADMIN, "Access-Control-Request-Method": "POST"}
ALLOWS = "access-control-allow-origin"


@pytest.mark.parametrize("way", ["", f"/{TOKEN}"])
def test_a_page_of_the_admin_origin_may_send_requests(with_admin: TestClient, way: str) -> None:
    preflight = with_admin.options(f"{way}/gesso/api/heal", headers=PREFLIGHT)
    assert (preflight.status_code, preflight.content) == (204, b"")
    assert preflight.headers[ALLOWS] == ADMIN
    assert preflight.headers["vary"] == "Origin"
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    headers = {"Origin": ADMIN, "Sec-Fetch-Site": "cross-site", **({} if way else BEARER)}
    answer = with_admin.post(f"{way}/gesso/api/heal", headers=headers)
    assert (answer.status_code, answer.headers[ALLOWS], answer.json()["by"]) == (202, ADMIN, ADMIN)
    assert "location" in answer.headers["access-control-expose-headers"].lower()
    for received in (preflight.headers, answer.headers):
        assert "access-control-allow-credentials" not in received
    missing = with_admin.get(f"{way}/gesso/api/reports/x", headers=headers)
    assert (missing.status_code, missing.headers[ALLOWS]) == (404, ADMIN)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", f"{ADMIN}:8443", "http://admin.example", "null", f"{ADMIN}.evil", ""]
)
def test_pages_of_other_origins_may_not(with_admin: TestClient, origin: str) -> None:
    for way in ("", f"/{TOKEN}"):
        preflight = with_admin.options(f"{way}/gesso/api/heal", headers={**PREFLIGHT, "Origin": origin})
        assert preflight.status_code >= 400
        assert ALLOWS not in preflight.headers
    answer = with_admin.get("/gesso/api/status", headers={**BEARER, "Origin": origin})
    assert answer.status_code == 200  # the token grants access; a browser does not let that page read the response
    assert ALLOWS not in answer.headers


def test_the_admin_origin_is_limited_to_the_api(with_admin: TestClient) -> None:
    for path in ("/gesso/status.json", "/metrics", "/gesso/"):
        assert ALLOWS not in with_admin.get(path, headers={**BEARER, "Origin": ADMIN}).headers
        assert with_admin.options(path, headers=PREFLIGHT).status_code == 401


def test_without_an_admin_origin_there_is_no_cors(client: TestClient) -> None:
    preflight = client.options("/gesso/api/heal", headers={**PREFLIGHT, "Authorization": ""})
    assert preflight.status_code == 401
    answer = client.get("/gesso/api/status", headers={"Origin": ADMIN})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_preflight_grants_no_access(with_admin: TestClient, layout: Layout) -> None:
    with_admin.options("/gesso/api/heal", headers=PREFLIGHT)
    assert with_admin.post("/gesso/api/heal", headers={"Origin": ADMIN}).status_code == 401
    assert with_admin.get("/gesso/api/status", headers={"Origin": ADMIN}).status_code == 401
    assert with_admin.options("/gesso/api/heal", headers={"Origin": ADMIN}).status_code == 401
    assert not layout.reports.exists()


def test_the_cookie_is_invalid_for_other_sites(with_admin: TestClient, layout: Layout) -> None:
    request = decision.AccessRequest("GET", f"/?token={TOKEN}", {})
    set_by = decision.decide(request, decision.Gate(TOKEN, b"k" * 32), time.time()).headers["Set-Cookie"]
    cookie = {"Cookie": set_by.partition(";")[0], "Host": "instance.example"}
    foreign = {**cookie, "Origin": ADMIN, "Sec-Fetch-Site": "cross-site"}
    refused = with_admin.post("/gesso/api/heal", headers=foreign)
    assert (refused.status_code, refused.json()["error"]) == (403, "another site sent this request")
    assert with_admin.get("/gesso/api/reports", headers=foreign).status_code == 403
    assert not layout.reports.exists()
    own = {**cookie, "Origin": "http://instance.example", "Sec-Fetch-Site": "same-origin"}
    assert with_admin.post("/gesso/api/heal", headers=own).status_code == 202


# --- the logs


def test_the_logs(client: TestClient, layout: Layout) -> None:
    assert client.get("/gesso/api/logs").json() == {"logs": []}
    layout.logs.mkdir()
    (layout.logs / "comfyui.log").write_text("".join(f"line {n}\n" for n in range(1500)))
    (layout.logs / "gate.log").touch()
    assert client.get("/gesso/api/logs").json() == {"logs": ["comfyui", "gate"]}
    answer = client.get("/gesso/api/logs/comfyui")
    assert answer.json() == {"name": "comfyui", "lines": [f"line {n}" for n in range(1300, 1500)]}
    assert answer.headers["cache-control"] == "no-store"
    assert client.get("/gesso/api/logs/comfyui?lines=1").json()["lines"] == ["line 1499"]
    assert len(client.get("/gesso/api/logs/comfyui?lines=1000").json()["lines"]) == 1000
    assert client.get("/gesso/api/logs/gate").json() == {"name": "gate", "lines": []}


def test_the_logs_are_shown_without_secrets(client: TestClient, layout: Layout) -> None:
    """By value wherever they occur, in colors too, by their form, and at the start of what is read."""
    layout.logs.mkdir()
    path = layout.logs / "agent.log"
    hidden = [
        TOKEN, SECRET, KEY, f"http://h/{TOKEN}/ws", f"{TOKEN[:9]}\x1b[31m{TOKEN[9:]}", "https://me:pass-word@h/",
        "--token other-secret-1", "Authorization: Bearer other-secret-2", "CIVITAI_TOKEN=other-secret-3",
    ]  # fmt: skip
    path.write_text("\n".join([*hidden, "harmless"]))
    lines = client.get("/gesso/api/logs/agent").json()["lines"]
    assert lines[-1] == "harmless"
    text = "\n".join(lines)
    assert text.count("***") == len(hidden)
    for secret in (TOKEN, SECRET, KEY, "pass-word", "other-secret"):
        assert secret not in text
    for cut in range(len(SECRET)):  # the tail begins in the middle of a secret
        path.write_text(f"{SECRET}\n{'x' * (log_files.TAIL_BYTES - cut - 3)}\nend")
        assert SECRET[-6:] not in client.get("/gesso/api/logs/agent?lines=1000").text


@pytest.mark.parametrize("name", ["nothing", "agent.log", "..%2Fagent", "%2Fetc%2Fpasswd", "*", "%00"])
def test_there_are_no_other_logs(client: TestClient, layout: Layout, name: str) -> None:
    layout.logs.mkdir()
    (layout.logs / "agent.log").write_text("x")
    (layout.workspace / "agent.log").write_text("secret")
    answer = client.get(f"/gesso/api/logs/{name}")
    assert answer.status_code == 404
    assert answer.json()["next"]


@pytest.mark.parametrize("query", ["lines=0", "lines=1001", "lines=-1", "lines=x", "lines=", "lines=²", "line=3"])
def test_invalid_numbers_of_lines(client: TestClient, query: str) -> None:
    answer = client.get(f"/gesso/api/logs/agent?{query}")
    assert answer.status_code == 400
    assert answer.json()["next"]


def test_the_logs_require_the_token(client: TestClient) -> None:
    for path in ("logs", "logs/agent"):
        assert client.get(f"/gesso/api/{path}", headers={"Authorization": ""}).status_code == 401
