"""The gate of a running instance: what a stranger sees, what he leaves in the logs, and who is let through."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import requests

if TYPE_CHECKING:
    from pathlib import Path

    from docker.models.images import Image

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


def test_two_hundred_wrong_tokens(instance: Instance) -> None:
    """Each is 401, by every access method, and none is in any log."""
    wrong = [secrets.token_urlsafe(24) for _ in range(ATTEMPTS)]
    with requests.Session() as session:
        for number, token in enumerate(wrong):
            path, headers = [
                (f"/{token}/object_info", {}), ("/object_info", {"Authorization": f"Bearer {token}"}),
                (f"/?token={token}", {}), ("/", {"Cookie": f"gesso-00000000={token}"}),
                (f"/{token}/ws", {"Upgrade": "websocket", "Connection": "Upgrade"}),
            ][number % 5]  # fmt: skip
            answer = session.get(f"{instance.url}{path}", headers=headers, timeout=30, allow_redirects=False)
            assert answer.status_code == 401, path
    logs = instance.run("cat /var/log/gesso/* /run/gesso/*.log 2>/dev/null").stdout + instance.logs()
    assert [token for token in [*wrong, instance.token] if token in logs] == []


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

    instance.supervisor("stop agent")
    try:
        for path in ("/", "/object_info", "/wrong-token-0123456789/", "/gesso/", "/metrics"):
            assert requests.get(f"{instance.url}{path}", timeout=30).status_code == 401, path
        spoofed = requests.get(f"{instance.url}/", headers={"X-Gesso-Door": "path"}, timeout=30)
        assert spoofed.status_code == 401
        assert "system" in instance.json("/system_stats")
        assert asyncio.run(first_message())["type"] == "status"
        bearer = {"Authorization": f"Bearer {instance.token}"}
        assert requests.get(f"{instance.url}/system_stats", headers=bearer, timeout=30).status_code == 200
        page = requests.get(f"{instance.url}/{instance.token}/gesso/", headers={"Accept": "text/html"}, timeout=30)
        assert (page.status_code, page.headers["Retry-After"]) == (503, "5")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert 'http-equiv="refresh"' in page.text
        refused = requests.get(f"{instance.url}/system_stats", timeout=30)
        assert refused.json() == {"error": "Token missing or wrong: paste the whole URL, http://HOST:PORT/TOKEN"}
        assert instance.run("gesso health").rc == 1
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
