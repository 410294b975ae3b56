"""The gate of a running instance: what a stranger sees, what he leaves in the logs, and who is let through."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import requests

if TYPE_CHECKING:
    from pathlib import Path

    from docker.models.images import Image
    from playwright.sync_api import Browser

    from .conftest import Instance, Instances

ATTEMPTS = 200


async def _open(host: str, port: int, room: asyncio.Semaphore) -> int | None:
    async with room:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 5)
        except (OSError, TimeoutError):
            return None
        writer.close()
        return port


def test_a_port_scan_from_outside_finds_one_port(instance: Instance) -> None:
    instance.container.reload()
    networks: dict[str, Any] = instance.container.attrs["NetworkSettings"]["Networks"]
    host = str(next(iter(networks.values()))["IPAddress"])

    async def scan() -> list[int]:
        room = asyncio.Semaphore(400)
        found = await asyncio.gather(*[_open(host, port, room) for port in range(1, 65536)])
        return [port for port in found if port is not None]

    assert asyncio.run(scan()) == [8188]


def test_two_hundred_wrong_tokens(image: Image, instances: Instances) -> None:
    """Ten are 401 at once; then one a second is looked at, and the others are 429. None is in any log."""
    mine = instances.start(image)
    mine.wait_until_healthy()
    wrong = [secrets.token_urlsafe(24) for _ in range(ATTEMPTS)]

    def ask(number: int) -> int:
        token = wrong[number]
        path, headers = [
            (f"/{token}/object_info", {}), ("/object_info", {"Authorization": f"Bearer {token}"}),
            (f"/?token={token}", {}), (f"/{token}/ws", {"Upgrade": "websocket", "Connection": "Upgrade"}),
        ][number % 4]  # fmt: skip
        answer = requests.get(f"{mine.url}{path}", headers=headers, timeout=30, allow_redirects=False)
        assert set(answer.json()) == {"error"}, path
        return answer.status_code

    url, began = mine.url, time.monotonic()
    assert [ask(number) for number in range(10)] == [401] * 10
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(10, ATTEMPTS)))
    took = time.monotonic() - began
    assert set(answers) == {401, 429}
    assert answers.count(401) <= took + 13, "of one address, one is decided each second, and a few when it begins"
    while requests.get(f"{url}/{mine.token}/prompt", timeout=30).status_code == 429:
        assert time.monotonic() - began < took + 30
        time.sleep(0.2)
    assert [ask(number) for number in range(20)] == [401] * 20, "behind Docker's proxy all have Krita's address"
    assert requests.get(f"{url}/{mine.token}/prompt", timeout=30).status_code == 200
    logs = mine.run("cat /var/log/gesso/* /run/gesso/*.log 2>/dev/null").stdout + mine.logs()
    assert [token for token in [*wrong, mine.token] if token in logs] == []
    mine.container.remove(force=True, v=True)


def test_every_answer_names_the_instance_and_no_server(instance: Instance) -> None:
    name = instance.run("cat /run/gesso/instance-id").stdout.strip()
    for path in ("/", f"/{instance.token}/system_stats", f"/{instance.token}/gesso/", f"/{instance.token}/nothing"):
        for headers in ({}, {"Accept": "text/html"}):
            answer = requests.get(f"{instance.url}{path}", headers=headers, timeout=30)
            _check_headers(answer, name)


def _check_headers(answer: requests.Response, name: str) -> None:
    assert answer.headers["X-Gesso-Instance"] == name, answer.url
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin", answer.url
    assert answer.headers["Referrer-Policy"] == "no-referrer", answer.url
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN", answer.url
    assert "Server" not in answer.headers, answer.url


def test_comfyuis_errors_are_json_unless_html_is_accepted(instance: Instance) -> None:
    """Krita shows JSON's `error` alone; of ComfyUI's own JSON nothing is changed."""
    for path in ("/nothing", "/gesso/nothing"):
        missing = requests.get(f"{instance.url}/{instance.token}{path}", timeout=30)
        assert (missing.status_code, missing.headers["Content-Type"]) == (404, "application/json")
        assert missing.json() == {"error": "ComfyUI has nothing at this address (404)"}
    page = requests.get(f"{instance.url}/{instance.token}/nothing", headers={"Accept": "text/html"}, timeout=30)
    assert (page.status_code, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "<h1>404</h1>" in page.text
    wrong = requests.put(f"{instance.url}/{instance.token}/system_stats", timeout=30)
    assert wrong.json() == {"error": f"ComfyUI answered {wrong.status_code} {wrong.reason}"}
    invalid = requests.post(f"{instance.url}/{instance.token}/prompt", json={"prompt": {}}, timeout=30)
    assert invalid.status_code == 400
    assert invalid.json() != {"error": "ComfyUI answered 400 Bad Request"}


def test_what_people_copy_works_as_kritas_address(instance: Instance) -> None:
    """The page's address: what is not the page's goes to ComfyUI without /gesso."""

    async def first_message(url: str) -> Any:
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            return await socket.receive_json(timeout=30)

    for address in (f"/{instance.token}", f"/{instance.token}/gesso"):
        assert "system" in instance.json(f"{address.removeprefix(f'/{instance.token}')}/system_stats"), address
        assert asyncio.run(first_message(f"{instance.url}{address}/ws?clientId=test"))["type"] == "status"
        for path in ("object_info", "api/etn/languages", "prompt", "queue"):
            assert requests.get(f"{instance.url}{address}/{path}", timeout=60).status_code == 200, path
    bearer = {"Authorization": f"Bearer {instance.token}"}
    assert "system" in requests.get(f"{instance.url}/gesso/system_stats", headers=bearer, timeout=30).json()
    assert requests.get(f"{instance.url}/gesso/system_stats", timeout=30).status_code == 401
    assert "state" in instance.json("/gesso/api/status")
    assert "next" in instance.json("/gesso/api/nothing"), "an address below the agent's API stays the agent's"
    for address in ("", f"/{instance.token}", f"/{instance.token}/gesso"):
        pasted = requests.get(f"{instance.url}{address}/?token={instance.token}/system_stats", timeout=30)
        assert (pasted.status_code, pasted.json()["error"][:32]) == (401, "Paste http://HOST:PORT/TOKEN int"), address


def test_krita_sees_how_far_the_models_are(image: Image, instances: Instances, with_models: None) -> None:
    """Until the required models are verified, by every address that Krita may have; nothing else is held back."""
    mine = instances.start_idle(image)
    mine.mirror("*", "slow", rate=400_000)
    mine.container.exec_run(["entrypoint.sh"], detach=True)
    mine.wait_for(lambda status: status["state"] == "fetching" and status["comfyui"]["up"], "a fetch beside ComfyUI")
    bearer = {"Authorization": f"Bearer {mine.token}"}
    for path, headers in (
        (f"/{mine.token}/system_stats", {}), (f"/{mine.token}/gesso/system_stats", {}), ("/system_stats", bearer),
    ):  # fmt: skip
        answer = requests.get(f"{mine.url}{path}", headers=headers, timeout=30)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30"), path
        assert re.fullmatch(
            r"Models are (coming(: \d+ %)?(, about \d+ \w+)?|being checked.*)", answer.json()["error"]
        ), path
    page = requests.get(f"{mine.url}/{mine.token}/system_stats", headers={"Sec-Fetch-Site": "same-origin"}, timeout=30)
    assert page.status_code == 200
    assert requests.get(f"{mine.url}/{mine.token}/prompt", timeout=30).status_code == 200
    assert requests.get(f"{mine.url}/system_stats", timeout=30).status_code == 401
    mine.mirror("*", "healthy")
    mine.wait_until_healthy()
    assert "system" in mine.json("/system_stats")
    mine.container.remove(force=True, v=True)


@dataclass
class Raw:
    """What a raw request got: `seconds` until the connection was closed; None if it was still open."""

    head: str
    body: str
    seconds: float | None


def _raw(instance: Instance, request: bytes, wait: float = 5.0) -> Raw:
    host, _, port = instance.url.removeprefix("http://").rpartition(":")
    began, received, seconds = time.monotonic(), b"", None
    with socket.create_connection((host, int(port)), timeout=wait) as client, suppress(TimeoutError):
        client.sendall(request)
        with suppress(ConnectionResetError):
            while part := client.recv(65536):
                received += part
        seconds = time.monotonic() - began
    head, _, body = received.decode("latin-1").partition("\r\n\r\n")
    return Raw(head, body, seconds)


TARGETS = [
    "/%2f{token}/system_stats", "//{token}/system_stats", "/{token};x/system_stats", "/{token}%2fsystem_stats",
    "/./{token}/system_stats", "/x/../{token}/system_stats", "/{token}\\system_stats", "http://{token}/system_stats",
    "http://127.0.0.1:18188/system_stats", "http://unix/system_stats", "system_stats", "*", "/%00/system_stats",
]  # fmt: skip
HOSTS = ["", "Host: a\r\nHost: b\r\n", "Host: a b\r\n", "Host: 127.0.0.1:18188\r\n", "Host: \r\n", "Host: unix\r\n"]


@pytest.mark.parametrize("agent", ["up", "away"])
def test_strange_requests_stay_outside(instance: Instance, agent: str) -> None:
    """Also while the agent is away: Caddy compares the path as it was sent, neither decoded nor cleaned."""
    if agent == "away":
        instance.supervisor("stop agent")
    try:
        closed = {"401", "400"} if agent == "up" else {"503", "400"}
        for target in TARGETS:
            line = f"GET {target.format(token=instance.token)} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            found = _raw(instance, line.encode())
            assert found.head.split(" ")[1] in closed, target
            assert "\nServer:" not in found.head, target
            assert "system" not in found.body.replace("system_stats", ""), target
        for host in HOSTS:
            found = _raw(instance, f"GET /system_stats HTTP/1.1\r\n{host}Connection: close\r\n\r\n".encode())
            assert found.head.split(" ")[1] in closed, host
        connect = _raw(instance, b"CONNECT 127.0.0.1:18188 HTTP/1.1\r\nHost: 127.0.0.1:18188\r\n\r\n")
        assert connect.head.split(" ")[1] in closed
        every = _raw(instance, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", wait=1)
        assert every.body == "", "Go's server answers this one itself, with nothing"
    finally:
        if agent == "away":
            instance.supervisor("start agent")
            instance.wait_until_healthy()


@pytest.mark.parametrize("size", [20_000, 60_000, 900_000])
def test_large_headers_always_get_the_same_answer(instance: Instance, size: int) -> None:
    for path in ("/", f"/{instance.token}/system_stats"):
        request = f"GET {path} HTTP/1.1\r\nHost: a\r\nX: {'a' * size}\r\nConnection: close\r\n\r\n".encode()
        for _ in range(5):
            found = _raw(instance, request)
            assert found.head.startswith("HTTP/1.1 431 Request Header Fields Too Large"), path


def test_the_largest_allowed_headers_reach_the_agent(instance: Instance) -> None:
    """Many small ones, as the cookies of neighbours are; ComfyUI accepts 8 KB in one."""
    more = "".join(f"X-{number}: {'a' * 500}\r\n" for number in range(29))
    for path, status in (("/", "401"), (f"/{instance.token}/system_stats", "200")):
        request = f"GET {path} HTTP/1.1\r\nHost: a\r\n{more}Connection: close\r\n\r\n".encode()
        assert {_raw(instance, request).head.split(" ")[1] for _ in range(5)} == {status}


def test_half_sent_requests_end(instance: Instance) -> None:
    """A hundred at once; meanwhile others are served, and an event stream stays open."""
    events = requests.get(f"{instance.url}/{instance.token}/gesso/events", stream=True, timeout=30)
    lines = events.iter_lines()
    next(lines)
    half = b"GET /x HTTP/1.1\r\nHost: a\r\n"
    large = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n"
    with ThreadPoolExecutor(101) as pool:
        found = [pool.submit(_raw, instance, half, 30) for _ in range(50)]
        found += [pool.submit(_raw, instance, large, 30) for _ in range(50)]
        assert "system" in instance.json("/system_stats")
    for each in found:
        seconds = each.result().seconds
        assert seconds is not None, "still open"
        assert seconds < 20
    began = time.monotonic()
    assert any(time.monotonic() - began > 1 for _ in lines), (
        "an event stream is not cut: lines arrive that were not buffered"
    )
    events.close()


def test_a_refusal_does_not_wait_for_the_body(instance: Instance) -> None:
    request = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"
    found = _raw(instance, request, wait=3)
    assert found.head.startswith("HTTP/1.1 401")
    assert "\nConnection: close" in found.head


def test_a_stranger_cannot_send_the_gates_own_header(instance: Instance) -> None:
    for door in ("path", "cookie", "welcome", "bearer"):
        answer = requests.get(f"{instance.url}/system_stats", headers={"X-Gesso-Door": door}, timeout=30)
        assert answer.status_code == 401, door


def test_internal_routes_are_not_reachable(instance: Instance) -> None:
    for path in ("/gesso/../gate", "/gesso/%2e%2e/gate", "/gesso/..%2fgate/welcome"):
        answer = requests.Request("GET", f"{instance.url}/{instance.token}/").prepare()
        answer.url = f"{instance.url}/{instance.token}{path}"
        with requests.Session() as session:
            assert session.send(answer, timeout=30, allow_redirects=False).status_code in {401, 403, 404}, path


def test_prometheus_reads_behind_the_gate(instance: Instance) -> None:
    assert requests.get(f"{instance.url}/metrics", timeout=30).status_code == 401
    bearer = {"Authorization": f"Bearer {instance.token}"}
    answer = requests.get(f"{instance.url}/metrics", headers=bearer, timeout=30)
    assert "gesso_comfyui_up 1" in answer.text
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")


def test_comfyui_receives_neither_token_nor_cookie(image: Image, instances: Instances) -> None:
    """Node packs see what ComfyUI sees: here another server in its place returns the headers that it received."""
    mine = instances.start(image)
    mine.wait_until_healthy()
    mine.supervisor("stop comfyui")
    echo = (
        "from http.server import *\n"
        "class H(BaseHTTPRequestHandler):\n"
        " def do_GET(s): s.send_response(200); s.end_headers(); s.wfile.write((s.path + str(s.headers)).encode())\n"
        "HTTPServer(('127.0.0.1', 18188), H).serve_forever()"
    )
    mine.container.exec_run(["/opt/gesso/venv/bin/python", "-c", echo], detach=True)
    listens = "grep -q ':470C 00000000:0000 0A' /proc/net/tcp"  # connections to the previous server do not count
    assert mine.run(f"for i in $(seq 200); do {listens} && exit; sleep 0.1; done; exit 1").rc == 0
    welcome = requests.get(f"{mine.url}/?token={mine.token}", timeout=30)
    cookie = welcome.headers["Set-Cookie"].partition(";")[0]
    for path, headers in (
        (f"/{mine.token}/x?a=b", {}),
        ("/x?a=b", {"Authorization": f"Bearer {mine.token}"}),
        ("/x?a=b", {"Cookie": f"other=1; {cookie}; more=2"}),
    ):
        output = requests.get(f"{mine.url}{path}", headers=headers, timeout=30).text
        assert output.startswith("/x?a=b")
        assert mine.token not in output
        assert cookie.partition("=")[2] not in output
        assert ("other=1" in output and "more=2" in output) == ("Cookie" in headers)
        assert "X-Gesso-Door" not in output
    mine.container.remove(force=True, v=True)


def test_a_large_upload_passes(instance: Instance) -> None:
    name = f"{secrets.token_hex(4)}.safetensors"
    body = os.urandom(1 << 20) * 200
    url = f"{instance.url}/{instance.token}/api/etn/upload/loras/{name}"
    assert requests.put(url, data=body, timeout=120).status_code in {200, 201}
    assert instance.run(f"stat -c %s /workspace/models/loras/{name}").stdout.strip() == str(len(body))
    instance.run(f"rm /workspace/models/loras/{name}")


def test_without_the_agent_the_gate_stays_closed_for_strangers_and_open_for_krita(instance: Instance) -> None:
    async def first_message() -> Any:
        url = f"{instance.url}/{instance.token}/ws?clientId=test"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            return await socket.receive_json(timeout=30)

    name = instance.run("cat /run/gesso/instance-id").stdout.strip()
    instance.supervisor("stop agent")
    try:
        for path in (
            "/",
            "/object_info",
            "/wrong-token-0123456789/",
            "/gesso/",
            "/metrics",
            f"/?token={instance.token}",
        ):
            unknown = requests.get(f"{instance.url}{path}", timeout=30)
            assert (unknown.status_code, unknown.headers["Retry-After"]) == (503, "5"), path
            assert "starting" in unknown.json()["error"], "nothing can be said about a token"
            _check_headers(unknown, name)
        spoofed = requests.get(f"{instance.url}/", headers={"X-Gesso-Door": "path"}, timeout=30)
        assert spoofed.status_code == 503
        assert "system" in instance.json("/system_stats")
        assert "system" in instance.json("/gesso/system_stats")
        assert instance.json("/nothing") == {"error": "ComfyUI has nothing at this address (404)"}
        assert asyncio.run(first_message())["type"] == "status"
        bearer = {"Authorization": f"Bearer {instance.token}"}
        assert requests.get(f"{instance.url}/system_stats", headers=bearer, timeout=30).status_code == 200
        for path in (f"/{instance.token}/gesso/", f"/?token={instance.token}"):
            page = requests.get(f"{instance.url}{path}", headers={"Accept": "text/html"}, timeout=30)
            assert (page.status_code, page.headers["Retry-After"]) == (503, "5")
            assert page.headers["Content-Type"] == "text/html; charset=utf-8"
            assert page.headers["Refresh"] == "3"
            _check_headers(page, name)
        assert instance.run("gesso health").rc == 1
    finally:
        instance.supervisor("start agent")
    instance.wait_until_healthy()


def test_open_pressed_too_early_leads_to_the_page(instance: Instance, browser: Browser) -> None:
    """Vast's Open button in the first seconds: the page reloads by itself until the agent is there."""
    instance.supervisor("stop agent")
    page = browser.new_page(color_scheme="dark")
    try:
        page.goto(f"{instance.url}/?token={instance.token}")
        assert page.locator("h1").inner_text() == "gesso is starting"
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light dark"
    finally:
        instance.supervisor("start agent")
    page.wait_for_url("**/gesso/", timeout=30_000)
    page.close()
    instance.wait_until_healthy()


def test_the_401_page_is_dark_in_dark_mode(instance: Instance, browser: Browser) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(instance.url)
    assert page.locator("h1").inner_text().startswith("401")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light dark"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(255, 255, 255)"
    page.close()


def test_without_agent_and_comfyui_every_answer_has_words(instance: Instance) -> None:
    name = instance.run("cat /run/gesso/instance-id").stdout.strip()
    instance.supervisor("stop agent comfyui")
    bearer = {"Authorization": f"Bearer {instance.token}"}
    try:
        for path, headers in (
            ("/", {}), (f"/{instance.token}/system_stats", {}), (f"/{instance.token}/gesso/system_stats", {}),
            ("/system_stats", bearer), (f"/{instance.token}/gesso/", {}), (f"/{instance.token}", {}),
        ):  # fmt: skip
            answer = requests.get(f"{instance.url}{path}", headers=headers, timeout=30)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5"), path
            assert "starting" in answer.json()["error"], path
            _check_headers(answer, name)
            page = requests.get(f"{instance.url}{path}", headers={**headers, "Accept": "text/html"}, timeout=30)
            assert (page.status_code, page.headers["Refresh"] in {"3", "5"}) == (503, True), path
    finally:
        instance.supervisor("start agent comfyui")
    instance.wait_until_healthy()


def test_a_frozen_agent_costs_two_seconds(instance: Instance) -> None:
    pid = instance.supervisor("pid agent").strip()
    instance.run(f"python3 -c 'import os; os.kill({pid}, 19)'")
    try:
        answer = requests.get(f"{instance.url}/{instance.token}/system_stats", timeout=30)
        assert answer.status_code == 200
        assert answer.elapsed.total_seconds() < 3
    finally:
        instance.run(f"python3 -c 'import os; os.kill({pid}, 18)'")
    instance.wait_until_healthy()


def test_a_killed_gate_leaves_no_socket_in_the_way(instance: Instance) -> None:
    pid = instance.supervisor("pid gate").strip()
    instance.run(f"python3 -c 'import os; os.kill({pid}, 9)'")
    instance.wait_until_healthy()
    instance.supervisor("stop agent")
    try:
        assert "system" in instance.json("/system_stats")
    finally:
        instance.supervisor("start agent")
    instance.wait_until_healthy()


def test_while_comfyui_is_down_krita_gets_an_error(instance: Instance) -> None:
    instance.supervisor("stop comfyui")
    try:
        answer = requests.get(f"{instance.url}/{instance.token}/system_stats", timeout=30)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert answer.json() == {"error": "ComfyUI is starting; try again in a few seconds."}
        assert requests.get(f"{instance.url}/{instance.token}/gesso/", timeout=30).status_code == 200
        found = instance.wait_for_state("failed", within=30)
        assert "ComfyUI is stopped" in found["why"]
    finally:
        instance.supervisor("start comfyui")
    instance.wait_until_healthy()


def test_the_url_names_the_public_address_or_says_that_it_may_not(image: Image, instances: Instances) -> None:
    mine = instances.start(image, env={"GESSO_PUBLIC_URL": "https://Paint.example/"})
    mine.wait_until_healthy()
    output = mine.run("gesso url")
    assert (output.stdout.strip(), output.stderr.strip()) == (f"https://paint.example/{mine.token}", "")
    assert mine.status()["public"] is True
    session = mine.run("env -u GESSO_PUBLIC_URL gesso url")  # as an SSH session has it
    assert session.stdout.strip() == f"https://paint.example/{mine.token}"
    unknown = instances.start(image)
    unknown.wait_until_healthy()
    output = unknown.run("gesso url")
    assert output.stdout.strip() == f"http://127.0.0.1:8188/{unknown.token}"
    assert "docker port" in output.stderr
    unknown.container.remove(force=True, v=True)
    wrong = mine.run("GESSO_PUBLIC_URL=https://paint.example/x gesso url")
    assert (wrong.rc, wrong.stdout) == (1, "")
    mine.container.remove(force=True, v=True)
    idle = instances.start(image, env={"GESSO_TOKEN": ""}, entrypoint=["sleep", "infinity"])
    listing = "find /run/gesso /workspace /var/log/gesso 2>/dev/null | sort"
    before = idle.run(listing).stdout
    for command in ("url", "status", "health", "logs", "logs gate"):
        assert idle.run(f"gesso {command}").rc in ({0, 1} if command == "logs" else {1, 2}), command
    assert idle.run(listing).stdout == before
    assert "gesso has not started here" in idle.run("gesso url").stderr
    idle.container.remove(force=True, v=True)


def test_with_a_certificate(image: Image, instances: Instances, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    more = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, *more, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    mine = instances.start(image, env={"GESSO_TLS_CERT": cert.read_text(), "GESSO_TLS_KEY": key.read_text()})
    mine.wait_until_healthy()
    secure = mine.url.replace("http://", "https://")
    answer = requests.get(f"{secure}/{mine.token}/system_stats", verify=str(cert), timeout=30)
    assert answer.status_code == 200
    assert requests.get(f"{secure}/", verify=str(cert), timeout=30).status_code == 401
    welcome = requests.get(f"{secure}/?token={mine.token}", verify=str(cert), timeout=30)
    assert "Secure" in welcome.headers["Set-Cookie"]
    assert mine.run("gesso url").stdout.startswith("https://127.0.0.1:8188/")
    assert requests.get(f"{mine.url}/{mine.token}/", timeout=30).status_code == 400
    environment = mine.run("cat /etc/environment").stdout
    assert "BEGIN" not in environment


def test_an_invalid_certificate_is_reported(image: Image, instances: Instances) -> None:
    mine = instances.start(image, env={"GESSO_TLS_CERT": "/none.pem", "GESSO_TLS_KEY": "/none.key"})
    assert mine.container.wait(timeout=60)["StatusCode"] == 1
    assert "GESSO_TLS_CERT" in mine.logs()
    assert "next:" in mine.logs()


# --- what it costs


def test_agent_gate_and_supervisor_stay_small(instance: Instance) -> None:
    """150 MB resident together, while the page is open."""
    listening = requests.get(f"{instance.url}/{instance.token}/gesso/events", stream=True, timeout=30)
    next(listening.iter_lines())
    pids = [instance.supervisor(f"pid {name}").strip() for name in ("agent", "gate")]
    output = instance.run(f"grep -h VmRSS {' '.join(f'/proc/{pid}/status' for pid in [*pids, '1'])}").stdout
    listening.close()
    sizes = [int(line.split()[1]) for line in output.splitlines()]
    assert len(sizes) == 3
    assert sum(sizes) < 150_000, sizes


@pytest.mark.parametrize("name", ["comfyui", "agent", "gate", "supervisord"])
def test_logs_are_readable(instance: Instance, name: str) -> None:
    assert instance.run(f"gesso logs {name}").rc == 0


def test_an_unknown_log(instance: Instance) -> None:
    output = instance.run("gesso logs nothing")
    assert output.rc == 2
    assert "comfyui" in output.stderr


def test_it_stops_within_ten_seconds(image: Image, instances: Instances) -> None:
    mine = instances.start(image)
    mine.wait_until_healthy()
    listening = requests.get(f"{mine.url}/{mine.token}/gesso/events", stream=True, timeout=30)
    next(listening.iter_lines())
    mine.container.stop(timeout=10)
    mine.container.reload()
    listening.close()
    assert mine.container.attrs["State"]["ExitCode"] == 0, "137 would be the engine's kill after ten seconds"
