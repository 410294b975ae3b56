"""Self-Heal on the page and from an operator's own admin page, in a headless Chromium, as people use it.

A fake heal replaces the real one (tests/fake_heal.py): it reports configured findings, and waits at configured events.
`check` and `repair` below drive the page in the same way for both.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from playwright.sync_api import expect

from . import incident

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docker.models.images import Image
    from playwright.sync_api import Browser, Page

    from gesso.manifest.schema import Manifest

    from .conftest import Instance, Instances, Picture

ROOT = Path(__file__).resolve().parents[2]
STATE = "/workspace/gesso"
WRAPPER = """\
#!/bin/sh
[ "$1" = heal ] && exec /opt/gesso/venv/bin/python /opt/gesso/fake_heal.py /workspace "$@"
exec /opt/gesso/venv/bin/gesso.real "$@"
"""
PYTHON = {
    "kind": "python", "name": "sqlalchemy", "found": "1.4.54 is there, 2.0.51 is locked", "restart": True,
    "remedy": "put back 2.0.51 from the wheel in the image",
}  # fmt: skip
PACK = {
    "kind": "pack", "name": "comfyui-tooling-nodes", "found": "its folder is gone", "restart": True,
    "remedy": "restore it from the image",
}  # fmt: skip
MODEL = {
    "kind": "model", "name": "checkpoints/juggernaut.safetensors", "found": "710.0 kB are there, 7.1 GB are right",
    "remedy": "quarantine it and fetch it again", "offline": False, "size": 7_105_348_188,
}  # fmt: skip
HOPELESS = {
    "kind": "model", "name": "vae/gated.safetensors", "found": "it is gone", "remedy": "", "repairable": False,
    "next_step": "set HF_TOKEN, and start the instance again", "offline": False,
}  # fmt: skip


@dataclass
class Damaged:
    """An instance in which the next heal finds what it is told."""

    instance: Instance

    @property
    def address(self) -> str:
        return f"{self.instance.url}/{self.instance.token}"

    def finds(self, *damages: dict[str, Any], hold: str = "", first: str = "", die: str = "") -> None:
        """Make the next heal find this; it waits before the event `hold` until `go_on`, or ends before `die`.

        Before that it waits at the event `first`, until `go_on_to_hold`.
        """
        self.go_on()
        self._write("fake-heal.json", json.dumps({"damages": damages, "hold": hold, "die": die}))
        if hold:
            self._write("fake-heal.hold", first)

    def go_on_to_hold(self) -> None:
        self._write("fake-heal.hold", "")

    def go_on(self) -> None:
        self.instance.run(f"rm -f {STATE}/fake-heal.hold")

    def wait_until_none_is_at_work(self) -> None:
        while self.latest()["state"] == "running":
            self.instance.run("sleep 0.1")

    def journal(self, name: str) -> list[str]:
        text = self.instance.run(f"cat {STATE}/reports/{name}.jsonl").stdout
        return [json.loads(line)["event"] for line in text.splitlines()]

    def latest(self) -> dict[str, Any]:
        return dict(self.instance.json("/gesso/api/heal"))

    def _write(self, name: str, text: str) -> None:
        self.instance.put(f"{STATE}/{name}", text.encode())


def _serve(page: Callable[[], str]) -> contextlib.AbstractContextManager[str]:
    """Serve one page on another port of this host: another origin, but browsers send it the same cookies."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page().encode())

        def log_message(self, *_: Any) -> None:
            pass

    @contextlib.contextmanager
    def serving() -> Iterator[str]:
        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()

    return serving()


ADMIN_PAGE = {"html": ""}


@pytest.fixture(scope="module")
def admin() -> Iterator[str]:
    """The origin of the operator's own page."""
    with _serve(lambda: ADMIN_PAGE["html"]) as origin:
        yield origin


@pytest.fixture(scope="module")
def damaged(instances: Instances, image: Image, admin: str) -> Damaged:
    mine = instances.start(image, env={"GESSO_ADMIN_ORIGIN": admin})
    mine.wait_until_healthy()
    mine.put("/opt/gesso/fake_heal.py", (ROOT / "tests" / "fake_heal.py").read_bytes())
    mine.run("mv /opt/gesso/venv/bin/gesso /opt/gesso/venv/bin/gesso.real")
    mine.put("/opt/gesso/venv/bin/gesso", WRAPPER.encode(), 0o755)
    return Damaged(mine)


@pytest.fixture
def page(browser: Browser, damaged: Damaged) -> Iterator[Page]:
    """The page of an instance on which no heal runs, with every error of the browser."""
    context = browser.new_context(viewport={"width": 900, "height": 900})
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text) if "Content Security" in message.text else None)
    opened.goto(f"{damaged.address}/gesso/")
    expect(opened.locator("#heal-text")).not_to_be_empty()
    yield opened
    damaged.go_on()
    context.close()
    damaged.wait_until_none_is_at_work()
    assert problems == []


def check(page: Page) -> None:
    """Press the button, and wait until the check has ended, with or without a question."""
    expect(page.locator("#heal-text")).not_to_be_empty()  # before that the button does nothing
    before = page.locator("#heal-text").text_content()
    page.get_by_role("button", name="Check and repair").click()
    expect(page.locator("#heal-text")).not_to_have_text(before or "", timeout=60_000)
    expect(page.locator("#heal-work")).to_be_hidden(timeout=300_000)


def repair(page: Page) -> None:
    """Answer the question with yes, and wait for the report."""
    page.get_by_role("button", name="Repair now").click()
    expect(page.locator("#heal-text")).to_contain_text("Checking again")
    expect(page.locator("#heal-work")).to_be_hidden(timeout=300_000)


def test_findings_are_shown_and_confirmed_once(page: Page, damaged: Damaged, picture: Picture) -> None:
    damaged.finds(PYTHON, PACK, MODEL)
    check(page)
    dialog = page.get_by_role("dialog", name="Repair this instance?")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text("sqlalchemy")
    expect(dialog).to_contain_text("1.4.54 is there, 2.0.51 is locked")
    expect(dialog).to_contain_text("restore it from the image")
    expect(dialog).to_contain_text("7.1 GB will be fetched. ComfyUI is restarted once")
    expect(page.locator("#heal-said")).to_contain_text("3 things are not as they should be")
    expect(page.locator("#ask-title")).to_be_focused()
    picture(page, "heal-plan")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name="Check and repair")).to_be_focused()
    assert damaged.latest()["dry_run"] is True  # nothing was repaired
    page.reload()
    expect(page.locator("#heal-text")).to_contain_text("3 things are not as they should be. Nothing was changed.")
    expect(page.locator("#heal-items")).to_contain_text("to be repaired")
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Repair…").click()
    expect(dialog).to_contain_text("comfyui-tooling-nodes")
    page.get_by_role("button", name="Not now").click()
    assert damaged.latest()["dry_run"] is True


def test_a_repair_is_shown_live_and_reported(page: Page, damaged: Damaged, picture: Picture) -> None:
    damaged.finds(PYTHON, MODEL, hold="repaired")
    check(page)
    page.get_by_role("button", name="Repair now").click()
    items = page.locator("#heal-items")
    expect(items).to_contain_text("being repaired", timeout=30_000)
    expect(page.locator("#heal-doing")).to_have_text("Repairing sqlalchemy")
    expect(page.get_by_role("button", name="Check and repair")).to_be_disabled()
    expect(page.get_by_role("button", name="Check and repair")).to_be_focused()
    page.reload()  # it continues, and the page finds it again
    expect(items).to_contain_text("being repaired")
    damaged.go_on()
    text = page.locator("#heal-text")
    expect(text).to_contain_text("2 things repaired.", timeout=30_000)
    expect(text).to_contain_text("7.1 GB fetched")
    expect(text).to_contain_text("ComfyUI was restarted")
    expect(page.locator("#heal-said")).to_have_text("2 things repaired.")
    assert items.locator(".stage").all_text_contents() == ["repaired", "repaired"]
    page.locator("#heal-title").evaluate("element => element.scrollIntoView()")
    picture(page, "heal-report")
    page.reload()
    expect(text).to_contain_text("2 things repaired.")
    assert damaged.latest()["by"] == "page"
    check(page)
    expect(text).to_contain_text("Nothing is wrong.")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(items).to_be_hidden()


@pytest.mark.usefixtures("with_models")
def test_the_incident_is_healed_by_the_button(
    browser: Browser, instances: Instances, image: Image, manifest: Manifest
) -> None:
    """With the real heal: all five things are found and named, and one answer repairs them."""
    mine = instances.start(image)
    mine.wait_for_state("ready")
    incident.prepare(mine)
    starts = mine.status()["comfyui"]["starts"]
    page = browser.new_page()
    page.goto(f"{mine.url}/{mine.token}/gesso/")
    expect(page.locator("#heal-text")).not_to_be_empty()
    with incident.happened(mine, manifest):
        check(page)
        dialog = page.get_by_role("dialog", name="Repair this instance?")
        for name in incident.names(manifest):
            expect(dialog).to_contain_text(name)
        expect(dialog).to_contain_text("ComfyUI is restarted once")
        page.get_by_role("button", name="Repair now").click()
        expect(page.locator("#heal-text")).to_contain_text("Checking again")
    expect(page.locator("#heal-work")).to_be_hidden(timeout=300_000)
    expect(page.locator("#heal-text")).to_contain_text("repaired.")
    expect(page.locator("#heal-text")).to_contain_text("ComfyUI was restarted")
    incident.assert_all_right(mine, manifest)
    assert mine.status()["comfyui"]["starts"] == starts + 1
    check(page)
    expect(page.locator("#heal-text")).to_contain_text("Nothing is wrong.")
    page.close()


def test_with_the_keyboard_alone(page: Page, damaged: Damaged) -> None:
    damaged.finds(PACK)
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "heal-check":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible(timeout=30_000)
    page.keyboard.press("Tab")
    expect(page.locator("#ask-yes")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#ask-no")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#heal-text")).to_contain_text("1 thing repaired.", timeout=30_000)


def test_manual_steps_are_shown_without_a_question(page: Page, damaged: Damaged) -> None:
    damaged.finds(HOPELESS)
    check(page)
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Repair…")).to_be_hidden()
    expect(page.locator("#heal-items")).to_contain_text("What to do: set HF_TOKEN")


def test_a_running_heal_is_shown(page: Page, damaged: Damaged) -> None:
    damaged.finds(PYTHON, hold="planned")
    expect(page.locator("#heal-text")).not_to_be_empty()
    other = requests.post(f"{damaged.address}/gesso/api/heal", timeout=30).json()["id"]
    page.get_by_role("button", name="Check and repair").click()
    expect(page.locator("#heal-trouble")).to_contain_text("Another heal was already running")
    expect(page.locator("#heal-items")).to_contain_text("sqlalchemy")
    damaged.go_on()
    expect(page.locator("#heal-text")).to_contain_text("1 thing repaired.", timeout=30_000)
    assert damaged.latest()["id"] == other
    assert damaged.latest()["by"] == "api"


def test_a_heal_started_by_others_is_shown(page: Page, damaged: Damaged) -> None:
    damaged.finds(PYTHON, hold="planned")
    requests.post(f"{damaged.address}/gesso/api/heal", timeout=30)
    expect(page.locator("#heal-items")).to_contain_text("sqlalchemy", timeout=30_000)


def test_the_agent_restarts_in_the_middle(page: Page, damaged: Damaged) -> None:
    damaged.finds(PYTHON, PACK, MODEL, hold="restarting", first="repairing")
    check(page)
    page.get_by_role("button", name="Repair now").click()
    stages = page.locator("#heal-items .stage")
    expect(page.locator("#heal-items")).to_contain_text("to be repaired", timeout=30_000)
    damaged.go_on_to_hold()
    expect(stages.nth(2)).to_have_text("repaired", timeout=30_000)
    name = damaged.latest()["id"]
    damaged.instance.supervisor("stop agent")
    expect(page.locator("#heal-lost")).to_be_visible(timeout=30_000)
    damaged.go_on()  # it ends while no agent can report it
    damaged.instance.run(f"while [ ! -e {STATE}/reports/{name}.json ]; do sleep 0.1; done")
    assert damaged.journal(name)[-1] == "ended"  # it outlived the agent
    damaged.instance.supervisor("start agent")
    expect(page.locator("#heal-text")).to_contain_text("3 things repaired.", timeout=60_000)
    expect(page.locator("#heal-lost")).to_be_hidden()
    expect(stages).to_have_count(3)
    assert damaged.latest()["id"] == name


# A replay from the start would show repaired things as still broken.
_BACKWARDS = """
window.backwards = 0;
const items = document.getElementById('heal-items');
new MutationObserver(() => { if (items.textContent.includes('to be repaired')) window.backwards += 1; })
  .observe(items, {childList: true, subtree: true});
"""


def test_the_agent_restarts_and_the_heal_goes_on(page: Page, damaged: Damaged) -> None:
    damaged.finds(PYTHON, MODEL, hold="restarting")
    check(page)
    page.get_by_role("button", name="Repair now").click()
    stages = page.locator("#heal-items .stage")
    expect(stages.nth(1)).to_have_text("repaired", timeout=30_000)
    page.evaluate(_BACKWARDS)
    damaged.instance.supervisor("restart agent")
    expect(page.locator("#heal-lost")).to_be_visible(timeout=30_000)
    expect(page.locator("#heal-lost")).to_be_hidden(timeout=60_000)
    expect(page.locator("#heal-work")).to_be_visible()
    second = requests.post(f"{damaged.address}/gesso/api/heal", timeout=30)
    assert second.status_code == 409  # the new agent knows it
    damaged.go_on()
    expect(page.locator("#heal-text")).to_contain_text("2 things repaired.", timeout=30_000)
    assert page.evaluate("window.backwards") == 0


def test_a_killed_heal_is_reported(page: Page, damaged: Damaged) -> None:
    damaged.finds(PYTHON, die="planned")
    check(page)
    expect(page.locator("#heal-text")).to_contain_text("interrupted")
    expect(page.get_by_role("button", name="Check and repair")).to_be_enabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(browser: Browser, damaged: Damaged, scheme: Any, picture: Picture) -> None:
    damaged.finds(PYTHON, {**MODEL, "name": f"checkpoints/{'long-' * 20}name.safetensors"})
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{damaged.address}/gesso/")
    check(page)
    expect(page.get_by_role("dialog")).to_be_visible()
    box = page.get_by_role("dialog").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    assert page.evaluate("document.getElementById('ask').scrollWidth <= document.getElementById('ask').clientWidth")
    picture(page, f"heal-phone-{scheme}")
    repair(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    context.close()


def test_with_access_by_cookie(browser: Browser, damaged: Damaged) -> None:
    damaged.finds(PACK)
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{damaged.instance.url}/?token={damaged.instance.token}")
    check(page)
    repair(page)
    expect(page.locator("#heal-text")).to_contain_text("1 thing repaired.")
    context.close()


# --- the operator's own admin page


def example(instance: Instance) -> str:
    """Return the admin page of docs/operator.md, with the address and the token filled in."""
    html: str
    (html,) = re.findall(r"```html\n(.*?)```", (ROOT / "docs/operator.md").read_text(encoding="utf-8"), re.DOTALL)
    assert html.count("http://HOST:PORT") == html.count("TOKEN") == 1
    return "<!doctype html>" + html.replace("http://HOST:PORT", instance.url).replace("TOKEN", instance.token)


def test_the_example_of_the_docs_heals_from_another_origin(browser: Browser, damaged: Damaged, admin: str) -> None:
    damaged.finds(PYTHON)
    ADMIN_PAGE["html"] = example(damaged.instance)
    context = browser.new_context()
    page = context.new_page()
    page.goto(admin)
    page.get_by_role("button", name="Self-Heal").click()
    expect(page.locator("#said")).to_have_text("done: 1 found", timeout=60_000)
    assert damaged.latest()["by"] == admin
    context.close()


def test_without_the_setting_it_fails(browser: Browser, instance: Instance, admin: str) -> None:
    """The session's instance names no origin."""
    ADMIN_PAGE["html"] = example(instance)
    context = browser.new_context()
    page = context.new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.goto(admin)
    page.get_by_role("button", name="Self-Heal").click()
    expect(page.locator("#said")).to_contain_text("Failed to fetch", timeout=30_000)
    assert any("CORS policy" in text for text in messages), messages
    assert instance.json("/gesso/api/reports") == {"reports": []}  # nothing was started
    context.close()


def test_a_neighbouring_port_cannot_heal_even_with_the_cookie(browser: Browser, damaged: Damaged, admin: str) -> None:
    """The admin's page has the right origin, and the cookie of a user of the instance in the same browser."""
    ADMIN_PAGE["html"] = "<h1>admin</h1>"
    before = damaged.latest()
    with _serve(lambda: "<h1>neighbour</h1>") as neighbour:
        for origin in (admin, neighbour):
            context = browser.new_context()
            page = context.new_page()
            page.goto(f"{damaged.instance.url}/?token={damaged.instance.token}")
            state = "ready" if damaged.instance.with_models else re.compile("fetching|failed")
            expect(page.locator("#state")).to_have_text(state)
            page.goto(origin)
            url = f"{damaged.instance.url}/gesso/api/heal"
            how = "{method: 'POST', mode: 'cors', credentials: 'include'}"
            assert page.evaluate(f"fetch('{url}', {how}).then(() => 'read', () => 'refused')") == "refused"
            no_cors = how.replace("cors", "no-cors")  # the browser sends it, and the gate refuses it
            with page.expect_request(url):
                assert page.evaluate(f"fetch('{url}', {no_cors}).then(() => 'read', () => 'hidden')") == "hidden"
            context.close()
    assert damaged.latest().get("id") == before.get("id")


def test_the_preflight_request_through_the_gate(damaged: Damaged, admin: str) -> None:
    asks = {"Origin": admin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    url, token = damaged.instance.url, damaged.instance.token
    for way in (url, f"{url}/{token}"):
        answer = requests.options(f"{way}/gesso/api/heal", headers=asks, timeout=30)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == admin
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "X-Gesso-Door" not in answer.headers
        other = requests.options(f"{way}/gesso/api/heal", headers={**asks, "Origin": "http://evil.example"}, timeout=30)
        assert other.status_code in {400, 401}
        assert "Access-Control-Allow-Origin" not in other.headers
    for path in ("/prompt", "/gesso/", "/gesso/api/../../prompt", "/gesso/api/%2e%2e/%2e%2e/prompt"):
        request = requests.Request("OPTIONS", url, headers=asks).prepare()
        request.url = f"{url}{path}"
        with requests.Session() as session:
            assert session.send(request, timeout=30).status_code == 401, path
    spoofed = requests.post(f"{url}/gesso/api/heal", headers={"X-Gesso-Door": "preflight", **asks}, timeout=30)
    assert spoofed.status_code == 401
    assert spoofed.json()["next"]


def test_an_invalid_origin_stops_the_boot(image: Image, instances: Instances) -> None:
    mine = instances.start(image, env={"GESSO_ADMIN_ORIGIN": "*"})
    assert mine.container.wait(timeout=60)["StatusCode"] == 1
    assert "GESSO_ADMIN_ORIGIN: '*' is not exactly one origin" in mine.logs()
    assert "next:" in mine.logs()
