"""The page, in a headless Chromium as people use it: from the first boot to the copy button, by each access method.

`GESSO_SCREENSHOTS=DIR` saves screenshots; test_page_states saves those of the states.
"""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import requests
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.images import Image
    from playwright.sync_api import Browser

    from gesso.manifest.schema import Manifest

    from .conftest import Instance, Instances, Picture

STATES = ["booting", "fetching", "starting", "ready"]
PROBE = """
const seen = []; window.seenStates = seen;
new MutationObserver(() => {
  const message = document.getElementById('state').dataset.state;
  if (seen.at(-1) !== message) seen.push(message);
}).observe(document.getElementById('state'), {attributes: true, childList: true});
"""


@pytest.fixture(scope="module")
def slow(instances: Instances, image: Image, manifest: Manifest) -> Instance:
    """An instance whose mirror is slow from its first byte on: set before anything else starts."""
    if not manifest.trial:
        pytest.skip("the real models are out of reach of a test: this was not run")
    mine = instances.start_idle(image)
    mine.mirror("*", "slow", rate=400_000)
    return mine


def test_from_booting_to_ready(browser: Browser, slow: Instance) -> None:
    slow.container.exec_run(["entrypoint.sh"], detach=True)
    deadline = 200
    for _ in range(deadline):
        try:
            if requests.get(f"{slow.url}/{slow.token}/gesso/", timeout=5).status_code == 200:
                break
        except requests.RequestException:
            pass
        slow.run("sleep 0.1")
    page = browser.new_page(viewport={"width": 900, "height": 900})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(f"{slow.url}/{slow.token}/gesso/")
    page.evaluate(PROBE)
    state = page.locator("#state")
    expect(state).to_have_text("fetching", timeout=60_000)
    expect(page.locator("#why")).to_contain_text("are being downloaded")
    expect(page.locator("#whole-text")).to_contain_text(
        re.compile(r"^\d+ % · .+ of .+ · about .+ left"), timeout=20_000
    )
    expect(page).to_have_title(re.compile(r"^\d+ % · .+ · gesso$"))
    expect(page.locator("#models progress").first).to_be_visible(timeout=20_000)
    expect(page.locator("#models")).to_contain_text("/s", timeout=20_000)
    expect(page.locator("#models")).to_contain_text("from 127.0.0.1")
    expect(page.locator("#copy")).to_be_disabled()
    expect(page.locator("#url")).to_have_value("")
    expect(page.locator("#wait")).to_contain_text("Meanwhile: install the plugin")
    slow.mirror("*", "healthy")
    expect(state).to_have_text("ready", timeout=120_000)
    seen = page.evaluate("window.seenStates")
    assert [name for name in STATES if name in seen] == [name for name in seen if name in STATES], seen
    expect(page.locator("#said")).to_contain_text("ready: Krita can work")
    expect(page.locator("#totals")).to_contain_text("verified")
    expect(page.locator("#models")).to_be_hidden()
    page.locator("#totals").click()
    expect(page.locator("#models .stage").first).to_have_text("verified")
    page.locator("#totals").click()
    assert problems == []


@pytest.fixture
def address(slow: Instance) -> str:
    slow.wait_for_state("ready", "degraded")
    return f"{slow.url}/{slow.token}"


def test_the_copy_button(browser: Browser, address: str) -> None:
    context = browser.new_context()
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{address}/gesso/")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == address
    expect(page.locator("#said")).to_contain_text("copied")
    assert "system" in requests.get(f"{address}/system_stats", timeout=30).json()
    context.close()


def test_with_the_keyboard(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}/gesso/")
    expect(page.locator("#copy")).to_be_enabled()
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert reached[0] == "Skip to content"
    assert {"url", "copy", "totals", "The ComfyUI editor"} <= set(reached)
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    page.close()


def test_for_a_screen_reader(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}/gesso/")
    expect(page.locator("#copy")).to_be_enabled()
    for name in ("State", "Connect Krita", "Self-Heal", "Models", "Open", "Machine", "Logs"):
        expect(page.get_by_role("region", name=name)).to_be_visible()
    expect(page.get_by_label("The address to paste into Krita")).to_have_value(address)
    expect(page.get_by_role("status").and_(page.locator("#said"))).to_have_attribute("aria-live", "polite")
    assert page.locator("html").get_attribute("lang") == "en"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(browser: Browser, address: str, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{address}/gesso/")
    expect(page.locator("#copy")).to_be_enabled()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) == (scheme == "dark")
    button = page.get_by_role("button", name="Copy").bounding_box()
    assert button is not None
    assert button["height"] >= 36
    context.close()


def test_the_links_have_targets(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}/gesso/")
    expect(page.locator("#workflows a").first).to_be_visible()
    outside = ("https://github.com/Acly/krita-ai-diffusion/", "https://cloud.vast.ai/")
    for link in page.locator("main a[href], footer a[href]").all():
        target = str(link.evaluate("element => element.href"))
        if target.startswith(outside):
            assert link.get_attribute("rel") == "noopener noreferrer"
            continue
        assert requests.get(target, timeout=30).status_code == 200, target
    with page.expect_download() as download:
        page.locator("#workflows a").first.click()
    assert download.value.suggested_filename.endswith(".json")
    page.close()


def test_access_by_cookie(browser: Browser, slow: Instance, address: str, picture: Picture) -> None:
    context = browser.new_context()
    page = context.new_page()
    refused = page.goto(f"{slow.url}/gesso/")
    assert refused is not None
    assert refused.status == 401
    expect(page.locator("h1")).to_contain_text("401")
    picture(page, "page-401")
    page.get_by_label("Or enter the token here").fill("wrong-token-0123456789")
    page.get_by_role("button", name="Let me in").click()
    expect(page.locator("h1")).to_contain_text("401")
    page.get_by_label("Or enter the token here").fill(slow.token)
    page.get_by_role("button", name="Let me in").click()
    expect(page.locator("#state")).to_have_text("ready")
    assert page.url == f"{slow.url}/gesso/"
    assert slow.token not in page.url
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert slow.token not in cookie["value"]
    assert page.evaluate("document.cookie") == ""
    page.goto(f"{slow.url}/")
    expect(page.locator("body")).not_to_contain_text("401")
    posted = page.evaluate("fetch('queue', {method: 'POST', body: '{\"delete\": []}'}).then(a => a.status)")
    assert posted == 200
    context.close()


@pytest.fixture
def neighbour() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<h1>neighbour</h1>")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_another_site_cannot_act_with_the_cookie(
    browser: Browser, slow: Instance, address: str, neighbour: str
) -> None:  # fmt: skip
    """A page on another port of the same host: browsers send it the cookie, SameSite=Strict or not."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{slow.url}/?token={slow.token}")
    expect(page.locator("#state")).to_have_text("ready")
    assert page.url == f"{slow.url}/gesso/"
    page.goto(neighbour)
    sent = "mode: 'no-cors', credentials: 'include'"
    for options in (f"method: 'POST', body: '{{}}', {sent}", sent):
        done = page.evaluate(f"fetch('{slow.url}/queue', {{{options}}}).then(() => 'seen', () => 'hidden')")
        assert done == "hidden", "Cross-Origin-Resource-Policy keeps even an opaque answer from the page"
    (cookie,) = [f"{each['name']}={each['value']}" for each in context.cookies() if each["name"].startswith("gesso-")]
    headers = {"Cookie": cookie, "Sec-Fetch-Site": "same-site", "Origin": neighbour.rstrip("/")}
    for method in ("POST", "GET"):
        assert requests.request(method, f"{slow.url}/queue", headers=headers, timeout=30).status_code == 403, method
    opened = page.evaluate(
        f"new Promise(done => {{ const s = new WebSocket('{slow.url.replace('http', 'ws')}/ws');"
        "s.onopen = () => done('open'); s.onerror = () => done('refused'); })"
    )
    assert opened == "refused"
    context.close()


def test_the_logs_are_shown_without_the_token(browser: Browser, slow: Instance, address: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}/gesso/")
    page.get_by_text("What the programs of this instance report").click()
    for name in ("comfyui", "agent", "supervisord"):
        page.get_by_label("Log", exact=True).select_option(name)
        expect(page.locator("#log-text")).not_to_have_text("")
        assert slow.token not in page.locator("#log-text").inner_text()
    found = requests.get(f"{address}/gesso/api/logs/agent?lines=2", timeout=30).json()
    assert (found["name"], len(found["lines"]) <= 2) == ("agent", True)
    assert requests.get(f"{slow.url}/gesso/api/logs/agent", timeout=30).status_code == 401
    page.close()


def test_a_browser_leaves_the_token_in_no_log(slow: Instance, address: str) -> None:
    log = slow.run("cat /var/log/gesso/*").stdout + slow.logs()
    assert slow.token not in log
