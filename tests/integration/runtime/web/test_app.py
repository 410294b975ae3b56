"""What the agent serves, over a real socket: the gate's question, the page, the state as events, JSON and metrics."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
import requests
import uvicorn

from gesso.models.folder import Folder
from gesso.runtime.services.supervisord import Program, Supervisor
from gesso.runtime.state import metrics
from gesso.runtime.state.state import ModelFact, Trouble
from gesso.runtime.watch import status as statuses
from gesso.runtime.watch.comfyui import Watch
from gesso.runtime.watch.drift import Drift
from gesso.runtime.watch.heals import Healer
from gesso.runtime.watch.status import Status
from gesso.runtime.web.app import application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gesso.runtime.layout import Layout, Record
    from gesso.runtime.watch.model_sync import Stock

TOKEN = "right-token-0123456789"
STATIC = resources.files("gesso.runtime.web").joinpath("static")


class FakeStock:
    def __init__(self) -> None:
        self.models: tuple[ModelFact, ...] = ()
        self.looked = False
        self.errors: list[tuple[float, str]] = []
        self.folder = Folder

    def facts(self) -> Any:
        return self.looked, self.models, None


@pytest.fixture
def goods() -> FakeStock:
    return FakeStock()


@pytest.fixture
def status(layout: Layout, record: Callable[..., Record], goods: FakeStock, monkeypatch: pytest.MonkeyPatch) -> Status:
    monkeypatch.setattr(statuses, "FRESH", 0.0)
    made = record(
        workflows={"krita_gold_standard_sdxl.api.json": "x"}, pins={"torch": "2.13.0"},
        raw={"nodes": {"pack": {"commit": "a" * 40}}},
    )  # fmt: skip
    watch = Watch(layout, made, Supervisor(layout.run / "none"))
    stock: Stock = goods  # type: ignore[assignment]
    return Status(layout, made, {"GESSO_TOKEN": TOKEN}, stock, watch, Drift(layout, made, lambda: True))


@pytest.fixture
def url(status: Status, layout: Layout) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()
    app = application(status, TOKEN, Healer(layout, {}), ended=ended.is_set)
    config = uvicorn.Config(app, ws="none", lifespan="off", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    ended.set()
    server.should_exit = True
    thread.join()
    listening.close()


def _ready(status: Status, goods: FakeStock) -> None:
    goods.looked = True
    goods.models = (ModelFact("vae/a.safetensors", "required", "verified", 5, 5),)
    seen = status._watch.seen
    seen.up, seen.missing, seen.published = True, (), True
    seen.program = Program("comfyui", "RUNNING", 7, 1)
    seen.stats = {"system": {"comfyui_version": "0.33.0"}, "devices": [{"name": "cpu", "type": "cpu"}]}


# --- the gate's question


def _gate(url: str, uri: str, **headers: str) -> requests.Response:
    given = {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": uri, **headers}
    return requests.get(f"{url}/gate", headers=given, timeout=10, allow_redirects=False)


def test_only_who_may_pass_gets_a_yes(url: str) -> None:
    passed = _gate(url, f"/{TOKEN}/ws")
    assert (passed.status_code, passed.headers["X-Gesso-Door"]) == (200, "path")
    assert _gate(url, "/x", Authorization=f"Bearer {TOKEN}").headers["X-Gesso-Door"] == "bearer"
    assert _gate(url, f"/{TOKEN}").status_code == 308
    for uri in ("/", "/gesso/", "/wrong/x", "/?token=wrong"):
        refused = _gate(url, uri)
        assert refused.status_code == 401, uri
        assert "X-Gesso-Door" not in refused.headers
        assert refused.headers["WWW-Authenticate"]
        assert refused.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert _gate(url, f"/gesso/api{uri}").json()["next"].startswith("send Authorization: Bearer")
    assert requests.get(f"{url}/gate", timeout=10).status_code == 401  # without Caddy's headers, too


def test_a_person_gets_a_page_that_says_how_to_get_in(url: str) -> None:
    refused = _gate(url, "/", Accept="text/html,*/*")
    assert refused.status_code == 401
    assert "gesso url" in refused.text
    assert '<label for="token">' in refused.text
    assert refused.headers["Cache-Control"] == "no-store"
    assert TOKEN not in refused.text


def test_an_upgrade_is_only_a_question(url: str) -> None:
    assert _gate(url, f"/{TOKEN}/ws", Upgrade="websocket", Connection="Upgrade").status_code == 200
    assert _gate(url, "/ws", Upgrade="websocket", Connection="Upgrade").status_code == 401


def test_the_welcome_sets_the_cookie_and_the_cookie_opens(url: str) -> None:
    assert _gate(url, f"/?token={TOKEN}").headers["X-Gesso-Door"] == "welcome"
    given = {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": f"/view?token={TOKEN}&a=%22><script>"}
    page = requests.get(f"{url}/gate/welcome", headers=given, timeout=10)
    assert page.status_code == 200
    assert "url=/view?a=%22%3E%3Cscript%3E" in page.text
    assert TOKEN not in page.text
    cookie = page.headers["Set-Cookie"].partition(";")[0]
    assert _gate(url, "/", Cookie=cookie).headers["X-Gesso-Door"] == "cookie"
    foreign = _gate(url, "/", **{"Cookie": cookie, "X-Forwarded-Method": "POST", "Origin": "http://evil.example"})
    assert foreign.status_code == 403
    assert requests.get(f"{url}/gate/welcome", timeout=10).status_code == 401


# --- the page


def test_the_page_and_what_it_needs(url: str) -> None:
    page = requests.get(f"{url}/gesso/", timeout=10)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    needs = re.findall(r'(?:href|src)="([^"#]+)"', page.text)
    assert {"style.css", "app.js", "heal.js", "icon.svg", "status.json", "api/openapi.json"} <= set(needs)
    scripts = [STATIC.joinpath(name).read_text(encoding="utf-8") for name in needs if name.endswith(".js")]
    needs += re.findall(r'from "\./([\w.]+)"', "".join(scripts))
    assert "draw.js" in needs
    for name in needs:
        if not name.startswith("../"):
            assert requests.get(f"{url}/gesso/{name}", timeout=10).status_code == 200, name
    lead = requests.get(f"{url}/gesso", timeout=10, allow_redirects=False)
    assert (lead.status_code, lead.headers["Location"]) == (308, "gesso/")


@pytest.mark.parametrize("name", ["index.html", "style.css", "app.js", "draw.js", "heal.js", "icon.svg"])
def test_nothing_comes_from_outside(name: str) -> None:
    text = STATIC.joinpath(name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//[a-z]+\.[a-z]|@import|url\(", text)
    assert not re.search(r"\bstyle=|\bon[a-z]+=|innerHTML|eval\(|document\.write", text)  # the policy forbids them


@pytest.mark.parametrize("name", ["app.js", "heal.js"])
def test_every_id_that_a_script_asks_for_is_on_the_page(name: str) -> None:
    page, script = (STATIC.joinpath(name).read_text(encoding="utf-8") for name in ("index.html", name))
    ids = set(re.findall(r'id="([\w-]+)"', page))
    asked = set(re.findall(r'(?:\$|put|list)\("([\w-]+)"', script))
    assert asked
    assert asked <= ids
    assert set(re.findall(r'(?:aria-labelledby|aria-describedby|for)="([\w-]+)"', page)) <= ids


def _luminance(color: str) -> float:
    channels = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_the_contrast_is_enough_to_read(scheme: int) -> None:
    """WCAG AA: 4.5 to 1 for text."""
    css = STATIC.joinpath("style.css").read_text(encoding="utf-8")
    block = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[scheme]
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    pairs = [
        (text, ground) for text in ("ink", "soft", "accent", "good", "busy", "bad") for ground in ("paper", "card")
    ]
    for one, other in [*pairs, ("on-accent", "accent")]:
        light, dark = sorted((_luminance(colors[one]), _luminance(colors[other])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (one, other)


# --- the state


def test_status_json(url: str, status: Status, goods: FakeStock) -> None:
    first = requests.get(f"{url}/gesso/status.json", timeout=10)
    assert first.headers["Cache-Control"] == "no-store"
    assert first.json()["state"] == "booting"
    _ready(status, goods)
    found = requests.get(f"{url}/gesso/status.json", timeout=10).json()
    assert found["state"] == "ready"
    assert found["url"] == f"http://127.0.0.1:8188/{TOKEN}"
    assert found["totals"] == {"done": 5, "size": 5, "rate": 0, "left": None, "verified": 1}
    assert found["versions"]["comfyui"] == "0.33.0"
    assert found["versions"]["pack"] == "a" * 12
    assert found["workflows"][0]["name"] == "SDXL: gold standard"
    assert found["ready_after"] is not None
    assert found["gpus"] == [{"name": "cpu", "kind": "cpu", "free": None, "total": None}]


def test_events_tell_what_changes(url: str, status: Status, goods: FakeStock) -> None:
    with requests.get(f"{url}/gesso/events", timeout=10, stream=True) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = (line for line in answer.iter_lines(decode_unicode=True) if line.startswith("data: "))
        assert json.loads(next(lines)[6:])["state"] == "booting"
        _ready(status, goods)
        assert json.loads(next(lines)[6:])["state"] == "ready"


def test_the_server_ends_though_a_page_listens(url: str) -> None:
    """The fixture joins it; a stream that went on would keep it for its whole graceful time."""
    answer = requests.get(f"{url}/gesso/events", timeout=10, stream=True)
    assert next(answer.iter_lines())
    time.sleep(0.05)
    answer.close()


def test_metrics(url: str, status: Status, goods: FakeStock) -> None:
    _ready(status, goods)
    answer = requests.get(f"{url}/metrics", timeout=10)
    assert answer.headers["Content-Type"] == metrics.CONTENT_TYPE
    lines = answer.text.splitlines()
    assert 'gesso_state{state="ready"} 1' in lines
    assert 'gesso_state{state="failed"} 0' in lines
    assert 'gesso_model_verified{name="vae/a.safetensors",tier="required"} 1' in lines
    assert "gesso_comfyui_up 1" in lines
    sample = re.compile(r'gesso_\w+(\{(\w+="(\\.|[^"\\])*",?)+\})? [0-9.e+-]+')
    assert [line for line in lines if not line.startswith("# ") and not sample.fullmatch(line)] == []
    assert answer.text.endswith("\n")


def test_labels_are_escaped(status: Status, goods: FakeStock) -> None:
    goods.models = (ModelFact('a"b\\c\nd', "required", "failed", trouble=Trouble("x")),)
    assert r'{name="a\"b\\c\nd",tier="required"} 0' in metrics.text(status())


def test_since_when_and_how_long_it_took(status: Status, goods: FakeStock) -> None:
    assert status()["ready_after"] is None
    _ready(status, goods)
    took = status()["ready_after"]
    assert took is not None
    goods.looked, goods.models = True, (ModelFact("a", "required", "fetching", 5),)
    assert status()["state"] == "fetching"
    _ready(status, goods)
    assert status()["ready_after"] == took


def test_the_latest_errors_come_first(status: Status, goods: FakeStock) -> None:
    goods.errors = [(1.0, "old"), (3.0, "new")]
    status._watch.errors.append((2.0, "between"))
    assert [error["text"] for error in status()["errors"]] == ["new", "between", "old"]
