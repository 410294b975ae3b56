"""The page in every state, in a headless Chromium: light and dark, on a desktop and on a phone.

The real application serves it, with facts that are hard to reach in an instance. `GESSO_AXE=FILE` names axe.min.js
(https://github.com/dequelabs/axe-core), which checks each state for accessibility. `GESSO_SCREENSHOTS=DIR` saves
screenshots.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from playwright.sync_api import expect

from gesso.models.events import Event
from gesso.models.faults import SourceError, combine
from gesso.runtime.gate.decision import Gate
from gesso.runtime.layout import Layout, Record
from gesso.runtime.services.supervisord import Program, Supervisor
from gesso.runtime.state.state import ModelFact
from gesso.runtime.watch.comfyui import ComfyuiWatch
from gesso.runtime.watch.drift import Drift
from gesso.runtime.watch.heals import Healer
from gesso.runtime.watch.model_sync import trouble_of
from gesso.runtime.watch.status import Status
from gesso.runtime.web.app import application
from gesso.runtime.web.logs import LogReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

    from .conftest import Picture

TOKEN = "right-token-0123456789"
STATES = ("booting", "fetching", "starting", "ready", "degraded", "failed")
SCREENS = {"desktop": (900, 900), "phone": (360, 740)}
PICTURES = {
    ("fetching", "desktop", "light"): "page-fetching", ("fetching", "phone", "dark"): "page-fetching-phone-dark",
    ("ready", "desktop", "light"): "page-ready", ("ready", "desktop", "dark"): "page-ready-dark",
    ("ready", "phone", "light"): "page-phone-light", ("ready", "phone", "dark"): "page-phone-dark",
}  # fmt: skip
HOST = "huggingface.co"
GB = 1_000_000_000
MODELS = (
    ModelFact("vae/sdxl_vae_fp16.safetensors", "required", "verified", GB // 3, GB // 3, license="mit"),
    ModelFact("checkpoints/Juggernaut-XL-v9.safetensors", "required", "verified", 7 * GB, 7 * GB, license="openrail++"),
    ModelFact("ipadapter/ip-adapter_sdxl_vit-h.safetensors", "required", "verified", GB, GB, license="apache-2.0"),
    *(
        ModelFact(f"controlnet/a-model-with-a-long-name-{n}.safetensors", "required", "verified", GB, GB, license="mit")
        for n in range(10)
    ),
    ModelFact("upscale_models/HAT_SRx4.pth", "optional", "verified", GB, GB, license="apache-2.0"),
)
COMING = (
    MODELS[0],
    replace(MODELS[1], stage="fetching", done=3 * GB, rate=25e6, left=160.0, source=HOST),
    *(replace(model, stage="waiting", done=0) for model in MODELS[2:]),
)


class Instance:
    """An instance whose facts a test sets, with the real status, application and page."""

    def __init__(self, layout: Layout, env: dict[str, str]) -> None:
        workflows = {"krita_gold_standard_sdxl.api.json": "x"}
        pins = {"torch": "2.13.0", "sqlalchemy": "2.0.51"}
        record = Record("sdxl", "Stable Diffusion XL", trial=False, classes=(), pins=pins, workflows=workflows, raw={})
        watch = ComfyuiWatch(layout, record, Supervisor(layout.run / "none"))
        self.models: tuple[ModelFact, ...] = ()
        self.models_known = False
        self.errors: list[tuple[float, str]] = []
        self.drift = Drift(layout, record, lambda: True)
        self.seen, self.gate = watch.seen, watch.gate
        self.env = env
        sync: Any = self
        self.status = Status(layout, record, env, sync, watch, self.drift)
        self.url = ""

    def facts(self) -> tuple[bool, tuple[ModelFact, ...], None]:
        """Stand in for the models' part of the agent."""
        return self.models_known, self.models, None

    def become(self, state: str) -> None:
        """Take on the facts of a state."""
        self.models_known, self.models = state != "booting", COMING if state == "fetching" else MODELS
        up = state in {"ready", "degraded"}
        self.seen.up, self.seen.missing, self.seen.published = up, () if up else None, up
        self.gate.up = up
        self.seen.program = Program("comfyui", "RUNNING", 7, 1)
        self.seen.stats = {"devices": [{"name": "NVIDIA RTX 4090", "type": "cuda", "vram_free": GB, "vram_total": GB}]}
        if state == "failed":
            self.models = (*MODELS[:3], *(self._gone(model) for model in MODELS[3:13]), MODELS[13])
            self.errors = [(1_800_000_000.0, f"{model.name}: {HOST}: HTTP 404: not found") for model in MODELS[3:6]]
        if state == "degraded":
            self.models = (*MODELS[:13], self._gone(MODELS[13]))
        with self.status._guard:
            self.status._cached = (-1e9, {})

    def _gone(self, model: ModelFact) -> ModelFact:
        fault = SourceError(
            "not-found", "HTTP 404: the file is not there", f"look at https://{HOST}/x, then correct it"
        )
        error = combine(model.name, [(HOST, fault)])
        trouble = trouble_of(Event(kind="failed", name=model.name, message=str(error), fault="not-found"))
        return replace(model, stage="failed", done=0, source=HOST, trouble=trouble)


@contextmanager
def _served(app: Any) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, ws="none", lifespan="off", access_log=False, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    root = tmp_path_factory.mktemp("instance")
    names = ("gesso", "comfyui", "venv", "workspace", "run", "logs", "root")
    layout = Layout(**{name: root / name for name in names})
    layout.logs.mkdir()
    (layout.logs / "agent.log").write_text("".join(f"line {n}\n" for n in range(300)) + f"the token: {TOKEN}\n")
    (layout.logs / "comfyui.log").write_text(
        "".join(f"Total VRAM {n} MB, in a long line{' x' * 99}\n" for n in range(99))
    )
    env = {"GESSO_TOKEN": TOKEN, "PUBLIC_IPADDR": "203.0.113.7", "VAST_TCP_PORT_8188": "40123", "CONTAINER_ID": "123"}
    made, stop = Instance(layout, env), threading.Event()
    reader = LogReader(layout, env, TOKEN)
    app = application(made.status, Gate(TOKEN, b"k" * 32), Healer(layout, {}), reader, stopping=stop.is_set)
    with _served(app) as url:
        made.url = f"{url}/gesso/"
        yield made
        stop.set()


def _opened(browser: Browser, served: Instance, state: str, **more: Any) -> tuple[BrowserContext, Page]:
    served.become(state)
    context = browser.new_context(**{"viewport": {"width": 900, "height": 900}, **more})
    page = context.new_page()
    page.goto(served.url)
    expect(page.locator("#state")).to_have_text(state)
    return context, page


def _open_everything(page: Page) -> None:
    page.evaluate("for (const fold of document.querySelectorAll('details:not([hidden])')) fold.open = true")
    expect(page.locator("#log-text")).to_contain_text("line 299")


def _violations(page: Page) -> list[str]:
    """Return what axe finds."""
    found = page.evaluate("async () => (await axe.run()).violations")
    return [f"{one['id']}: {node['target']}: {node['failureSummary']}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_every_state(
    browser: Browser, served: Instance, state: str, scheme: Any, screen: str, picture: Picture
) -> None:  # fmt: skip
    width, height = SCREENS[screen]
    viewport: Any = {"width": width, "height": height}
    context, page = _opened(browser, served, state, viewport=viewport, color_scheme=scheme)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    if name := PICTURES.get((state, screen, scheme)):
        picture(page, name)
    for opened in (False, True):
        if opened:
            _open_everything(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if os.environ.get("GESSO_AXE"):
            page.evaluate(Path(os.environ["GESSO_AXE"]).read_text(encoding="utf-8"))
            assert _violations(page) == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) == (scheme == "dark")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light dark"
    assert problems == []
    context.close()


def test_the_progress_is_in_the_card_and_in_the_title(browser: Browser, served: Instance) -> None:
    context, page = _opened(browser, served, "fetching")
    expect(page.locator("#why")).to_have_text("The models that Krita needs are being downloaded.")
    expect(page.locator("#whole-text")).to_have_text("18 % · 3.3 GB of 18.3 GB · about 10 min left · 25.0 MB/s")
    expect(page).to_have_title("18 % · 10 min · gesso")
    expect(page.get_by_role("progressbar", name="18 %")).to_be_visible()
    served.become("ready")
    expect(page).to_have_title("ready · Stable Diffusion XL · gesso")
    expect(page.locator("#whole")).to_be_hidden()
    expect(page.locator("#said")).to_have_text("ready: Krita can work")
    context.close()


def test_the_address_comes_when_krita_can_work(browser: Browser, served: Instance) -> None:
    context, page = _opened(browser, served, "fetching")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    button, address = page.locator("#copy"), page.get_by_label("The address to paste into Krita")
    expect(button).to_be_disabled()
    expect(address).to_have_value("")
    expect(page.locator("#wait")).to_contain_text("Meanwhile: install the plugin, Krita AI Diffusion 1.")
    assert "/releases/tag/v1." in (page.locator("#wait a").get_attribute("href") or "")
    button.click(force=True)
    expect(button).to_have_text("Copy")
    served.become("ready")
    expect(button).to_be_enabled()
    expect(address).to_have_value(f"http://203.0.113.7:40123/{TOKEN}")
    expect(page.locator("#wait")).to_be_hidden()
    button.click()
    expect(button).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == f"http://203.0.113.7:40123/{TOKEN}"
    context.close()


def test_models_are_one_line_when_krita_can_work(browser: Browser, served: Instance) -> None:
    context, page = _opened(browser, served, "fetching")
    models = page.locator("#models")
    expect(models).to_be_visible()
    served.become("ready")
    expect(page.locator("#totals")).to_have_text("14 of 14 verified, 19.3 GB")
    expect(models).to_be_hidden()
    page.locator("#totals").press("Enter")
    expect(models).to_contain_text("(optional, apache-2.0)")
    served.become("degraded")  # the reader's choice stays
    expect(page.locator("#state")).to_have_text("degraded")
    expect(models).to_be_visible()
    tops = [page.locator(f"#{id_}").bounding_box() for id_ in ("url", "models-title", "heal-title")]
    assert [box["y"] for box in tops if box] == sorted(box["y"] for box in tops if box)
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_problems_in_an_artists_words(browser: Browser, served: Instance, scheme: Any, picture: Picture) -> None:
    context, page = _opened(browser, served, "failed", color_scheme=scheme)
    expect(page.locator("#why")).to_have_text("Krita cannot work with this instance yet.")
    problems = page.get_by_role("list", name="Problems").locator("> li")
    expect(problems).to_have_count(1)
    expect(problems).to_contain_text(f"10 models could not be downloaded. The server that has them ({HOST}) says that")
    card = page.get_by_role("region", name="State")
    expect(card.get_by_text("HTTP 404").first).to_be_hidden()
    card.get_by_text("For the operator", exact=True).click()
    expect(card.get_by_text(f"10 models: HTTP 404 from {HOST}")).to_be_visible()
    expect(card.get_by_text("then correct it").first).to_be_visible()
    expect(card.get_by_text("gesso status")).to_be_visible()
    expect(page.locator("#next")).to_be_hidden()
    picture(page, f"page-failed{'-dark' * (scheme == 'dark')}")
    context.close()


def test_what_it_costs_and_that_it_is_not_encrypted(browser: Browser, served: Instance) -> None:
    context, page = _opened(browser, served, "ready")
    expect(page.locator("#cost")).to_contain_text("by the hour until you destroy the instance")
    assert page.locator("#cost a").get_attribute("href") == "https://cloud.vast.ai/instances/"
    expect(page.locator("#insecure")).to_be_visible()
    served.env.pop("CONTAINER_ID")
    served.env.pop("PUBLIC_IPADDR")  # the page then takes the address that it was opened with: loopback
    served.become("degraded")
    expect(page.locator("#insecure")).to_be_hidden()
    expect(page.locator("#cost")).to_contain_text("If this server is rented")
    assert page.locator("#cost a").count() == 0
    served.env.update({"CONTAINER_ID": "123", "PUBLIC_IPADDR": "203.0.113.7"})
    context.close()


def test_the_log_viewer(browser: Browser, served: Instance) -> None:
    context, page = _opened(browser, served, "ready")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_text("What the programs of this instance report").click()
    text = page.locator("#log-text")
    expect(text).to_contain_text("line 299")
    expect(text).to_contain_text("the token: ***")
    assert len(text.inner_text().splitlines()) == 200
    page.get_by_label("Log", exact=True).select_option("comfyui")
    expect(text).to_contain_text("Total VRAM 98 MB")
    page.get_by_label("Log", exact=True).select_option("agent")
    page.get_by_label("Follow").check()
    expect(text).to_contain_text("line 299")
    log = served.status._layout.logs / "agent.log"
    with log.open("a") as file:
        file.write("one more\n")
    expect(text).to_contain_text("one more")
    page.get_by_role("button", name="Copy these lines").click()
    expect(page.locator("#log-said")).to_have_text("The lines were copied.")
    assert page.evaluate("navigator.clipboard.readText()").endswith("one more")
    context.close()
