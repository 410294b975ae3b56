"""The agent's web server over a real socket: forward_auth, the page, the state as events, JSON and metrics."""

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

from gesso.errors import CheckError
from gesso.models.folder import Folder
from gesso.runtime.gate import address
from gesso.runtime.gate.decision import Gate
from gesso.runtime.services.supervisord import Program, Supervisor
from gesso.runtime.state import metrics
from gesso.runtime.state.state import ModelFact, Trouble
from gesso.runtime.watch import status as statuses
from gesso.runtime.watch.comfyui import ComfyuiWatch
from gesso.runtime.watch.drift import Drift
from gesso.runtime.watch.heals import Healer
from gesso.runtime.watch.status import Status
from gesso.runtime.web.app import application
from gesso.runtime.web.logs import LogReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gesso.runtime.layout import Layout, Record
    from gesso.runtime.watch.model_sync import ModelSync

TOKEN = "right-token-0123456789"
SCRIPTS = ("app.js", "draw.js", "heal.js", "logs.js", "state.js")
STATIC = resources.files("gesso.runtime.web").joinpath("static")


class FakeModelSync:
    def __init__(self) -> None:
        self.models: tuple[ModelFact, ...] = ()
        self.models_known = False
        self.errors: list[tuple[float, str]] = []
        self.folder = Folder

    def facts(self) -> Any:
        return self.models_known, self.models, None


@pytest.fixture
def sync() -> FakeModelSync:
    return FakeModelSync()


@pytest.fixture
def status(
    layout: Layout, record: Callable[..., Record], sync: FakeModelSync, monkeypatch: pytest.MonkeyPatch
) -> Status:
    monkeypatch.setattr(statuses, "CACHE_SECONDS", 0.0)
    made = record(
        workflows={"krita_gold_standard_sdxl.api.json": "x"},
        workflow_titles={"krita_gold_standard_sdxl": "SDXL 1 Paint"}, pins={"torch": "2.13.0"},
        raw={"nodes": {"pack": {"commit": "a" * 40}}},
    )  # fmt: skip
    watch = ComfyuiWatch(layout, made, Supervisor(layout.run / "none"))
    watch.gate.up = True
    model_sync: ModelSync = sync  # type: ignore[assignment]
    return Status(layout, made, {"GESSO_TOKEN": TOKEN}, model_sync, watch, Drift(layout, made, lambda: True))


@pytest.fixture
def url(status: Status, layout: Layout) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    stopping = threading.Event()
    app = application(
        status, Gate(TOKEN, b"k" * 32), Healer(layout, {}), LogReader(layout, {}, TOKEN), stopping=stopping.is_set
    )
    config = uvicorn.Config(app, ws="none", lifespan="off", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    stopping.set()
    server.should_exit = True
    thread.join()
    listening.close()


def _ready(status: Status, sync: FakeModelSync) -> None:
    sync.models_known = True
    sync.models = (ModelFact("vae/a.safetensors", "required", "verified", 5, 5),)
    seen = status._watch.seen
    seen.up, seen.missing, seen.published, status._watch.gate.up = True, (), True, True
    seen.program = Program("comfyui", "RUNNING", 7, 1)
    seen.stats = {"system": {"comfyui_version": "0.33.0"}, "devices": [{"name": "cpu", "type": "cpu"}]}


# --- forward_auth


def _gate(url: str, uri: str, **headers: str) -> requests.Response:
    sent = {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": uri, **headers}
    return requests.get(f"{url}/gate", headers=sent, timeout=10, allow_redirects=False)


def test_only_allowed_requests_pass(url: str) -> None:
    passed = _gate(url, f"/{TOKEN}/ws")
    assert (passed.status_code, passed.headers["X-Gesso-Door"]) == (200, "path")
    assert _gate(url, "/x", Authorization=f"Bearer {TOKEN}").headers["X-Gesso-Door"] == "bearer"
    assert _gate(url, f"/{TOKEN}").status_code == 308
    for uri in ("/", "/gesso/", "/wrong/x", "/?token=wrong"):
        refused = _gate(url, uri)
        assert refused.status_code == 401, uri
        assert "X-Gesso-Door" not in refused.headers
        assert refused.headers["WWW-Authenticate"]
        assert refused.headers["Content-Type"] == "application/json"
        assert refused.json() == {"error": "Token missing or wrong: paste the whole URL, http://HOST:PORT/TOKEN"}
        assert _gate(url, f"/gesso/api{uri}").json()["next"].startswith("send Authorization: Bearer")
    assert requests.get(f"{url}/gate", timeout=10).status_code == 401  # without Caddy's headers, too


def test_a_person_gets_a_page_that_says_how_to_get_in(url: str) -> None:
    refused = _gate(url, "/", Accept="text/html,*/*")
    assert refused.status_code == 401
    assert "gesso url" in refused.text
    assert '<label for="token">' in refused.text
    assert refused.headers["Cache-Control"] == "no-store"
    assert TOKEN not in refused.text


def test_an_upgrade_header_changes_nothing(url: str) -> None:
    assert _gate(url, f"/{TOKEN}/ws", Upgrade="websocket", Connection="Upgrade").status_code == 200
    assert _gate(url, "/ws", Upgrade="websocket", Connection="Upgrade").status_code == 401


def test_the_welcome_page_sets_a_valid_cookie(url: str) -> None:
    assert _gate(url, f"/?token={TOKEN}").headers["X-Gesso-Door"] == "welcome"
    sent = {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": f"/view?token={TOKEN}&a=%22><script>"}
    page = requests.get(f"{url}/gate/welcome", headers=sent, timeout=10)
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
    assert {"style.css", "app.js", "heal.js", "logs.js", "icon.svg", "status.json", "api/openapi.json"} <= set(needs)
    scripts = [STATIC.joinpath(name).read_text(encoding="utf-8") for name in needs if name.endswith(".js")]
    needs += re.findall(r'from "\./([\w.]+)"', "".join(scripts))
    assert set(SCRIPTS) <= set(needs)
    for name in needs:
        if not name.startswith("../"):
            assert requests.get(f"{url}/gesso/{name}", timeout=10).status_code == 200, name
    lead = requests.get(f"{url}/gesso", timeout=10, allow_redirects=False)
    assert (lead.status_code, lead.headers["Location"]) == (308, "gesso/")


@pytest.mark.parametrize("name", ["index.html", "style.css", *SCRIPTS, "icon.svg"])
def test_nothing_comes_from_outside(name: str) -> None:
    text = STATIC.joinpath(name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//[a-z]+\.[a-z]|@import|url\(", text)
    assert not re.search(r"\bstyle=|\bon[a-z]+=|innerHTML|eval\(|document\.write", text)  # the policy forbids them


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "draw.js"])
def test_every_id_used_by_a_script_is_on_the_page(name: str) -> None:
    page, script = (STATIC.joinpath(name).read_text(encoding="utf-8") for name in ("index.html", name))
    ids = set(re.findall(r'id="([\w-]+)"', page))
    used = set(re.findall(r'(?:\$|put|list)\("([\w-]+)"', script))
    assert used
    assert used <= ids
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


def test_status_json(url: str, status: Status, sync: FakeModelSync) -> None:
    first = requests.get(f"{url}/gesso/status.json", timeout=10)
    assert first.headers["Cache-Control"] == "no-store"
    assert first.json()["state"] == "booting"
    _ready(status, sync)
    found = requests.get(f"{url}/gesso/status.json", timeout=10).json()
    assert found["state"] == "ready"
    assert found["url"] == f"http://127.0.0.1:8188/{TOKEN}"
    assert found["progress"] == {"done": 5, "size": 5, "rate": 0, "left": None, "percent": 100}
    assert found["totals"] == {"done": 5, "size": 5, "rate": 0, "left": None, "verified": 1}
    assert found["versions"]["comfyui"] == "0.33.0"
    assert found["versions"]["pack"] == "a" * 12
    assert found["workflows"] == [
        {"file": "krita_gold_standard_sdxl.api.json", "name": "SDXL 1 Paint", "client_id": "gesso-sdxl"}
    ]
    assert found["ready_after"] is not None
    assert found["gpus"] == [{"name": "cpu", "kind": "cpu", "free": None, "total": None}]


def test_problems_are_grouped(url: str, sync: FakeModelSync) -> None:
    sync.models_known = True
    trouble = Trouble("h: HTTP 404: not there", "correct it", "not-found")
    sync.models = tuple(
        ModelFact(f"vae/{n}", "required", "failed", 5, source="h", trouble=trouble, license="MIT") for n in range(3)
    )
    found = requests.get(f"{url}/gesso/status.json", timeout=10).json()
    (problem,) = found["problems"]
    assert (problem["cause"], problem["count"], problem["names"]) == ("HTTP 404 from h", 3, ["vae/0", "vae/1", "vae/2"])
    assert set(problem) == {"cause", "count", "names", "artist", "operator", "next"}
    assert [model["license"] for model in found["models"]] == ["MIT"] * 3


@pytest.mark.parametrize("name", ["VAST_CONTAINERLABEL", "CONTAINER_ID", ""])
def test_what_it_costs(status: Status, name: str) -> None:
    status._env = {name: "C.123"}
    found = status()
    assert found["vast"] == bool(name)
    assert ("https://cloud.vast.ai/instances/" in found["cost"]) == bool(name)
    assert found["connect"][0]["title"] == "Install the plugin"
    assert found["plugin"]["version"] in found["plugin"]["url"]


def test_events_report_changes(url: str, status: Status, sync: FakeModelSync) -> None:
    with requests.get(f"{url}/gesso/events", timeout=10, stream=True) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = (line for line in answer.iter_lines(decode_unicode=True) if line.startswith("data: "))
        assert json.loads(next(lines)[6:])["state"] == "booting"
        _ready(status, sync)
        assert json.loads(next(lines)[6:])["state"] == "ready"


def test_the_server_stops_while_a_page_is_connected(url: str) -> None:
    """The fixture joins it; an open stream would delay it for the whole graceful timeout."""
    answer = requests.get(f"{url}/gesso/events", timeout=10, stream=True)
    assert next(answer.iter_lines())
    time.sleep(0.05)
    answer.close()


def test_metrics(url: str, status: Status, sync: FakeModelSync) -> None:
    _ready(status, sync)
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


def test_labels_are_escaped(status: Status, sync: FakeModelSync) -> None:
    sync.models = (ModelFact('a"b\\c\nd', "required", "failed", trouble=Trouble("x")),)
    assert r'{name="a\"b\\c\nd",tier="required"} 0' in metrics.text(status())


def test_since_when_and_how_long_it_took(status: Status, sync: FakeModelSync) -> None:
    assert status()["ready_after"] is None
    _ready(status, sync)
    took = status()["ready_after"]
    assert took is not None
    sync.models_known, sync.models = True, (ModelFact("a", "required", "fetching", 5),)
    assert status()["state"] == "fetching"
    _ready(status, sync)
    assert status()["ready_after"] == took


def test_the_url_outlives_the_tokens_files(status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files may be deleted, and the state must still be shown."""

    def fail(*_: Any) -> str:
        raise CheckError("there is no token yet")

    first = status()["url"]
    assert first.endswith(TOKEN)
    monkeypatch.setattr(address, "url", fail)
    assert status()["url"] == first


def test_krita_waits_for_required_models_until_they_are_verified(url: str, status: Status, sync: FakeModelSync) -> None:
    sync.models = (ModelFact("vae/a.safetensors", "required", "fetching", 100, 43),)
    held = _gate(url, f"/{TOKEN}/system_stats")
    assert (held.status_code, held.json()) == (503, {"error": "Models are coming: 43 %"})
    _ready(status, sync)
    status._watch.seen.up = False  # what the state says does not matter: it asks through the gate
    assert _gate(url, f"/{TOKEN}/system_stats").status_code == 200


def test_the_latest_errors_come_first(status: Status, sync: FakeModelSync) -> None:
    sync.errors = [(1.0, "old"), (3.0, "new")]
    status._watch.errors.append((2.0, "between"))
    assert [error["text"] for error in status()["errors"]] == ["new", "between", "old"]
