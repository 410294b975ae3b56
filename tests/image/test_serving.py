"""ComfyUI serves what Krita needs, behind a gate, on one port, and starts and stops as it should."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import requests

from .options import ROOT

if TYPE_CHECKING:
    from docker.models.images import Image

    from gesso.manifest.schema import Manifest

    from .conftest import Instance, Instances


@pytest.fixture(scope="module")
def classes(instance: Instance) -> dict[str, Any]:
    answer: dict[str, Any] = instance.json("/object_info")
    return answer


def test_every_class_that_krita_needs_is_there(classes: dict[str, Any], manifest: Manifest) -> None:
    assert [name for name in manifest.classes if name not in classes] == []


def test_all_thirty_etn_classes_exist(classes: dict[str, Any]) -> None:
    etn = {name for name in classes if name.startswith("ETN_")}
    assert len(etn) == 30
    assert {"ETN_KritaCanvas", "ETN_KritaOutput", "ETN_Parameter", "ETN_KritaSelection"} <= etn


def test_no_node_pack_failed_to_import(instance: Instance) -> None:
    log = instance.run("cat /var/log/gesso/comfyui.log").stdout
    assert "Import times for custom nodes" in log
    assert "IMPORT FAILED" not in log


def test_comfyuis_log_has_no_error_when_all_is_well(instance: Instance, manifest: Manifest) -> None:
    """The real ComfyUI logs one, about the templates that are left out (docs/adr/0004), and nothing else."""
    log = instance.run("gesso logs comfyui").stdout
    errors = [line for line in log.splitlines() if re.search(r"ERROR|Traceback|CRITICAL", line)]
    expected = [] if manifest.trial else [line for line in errors if "Failed to resolve template asset paths" in line]
    assert errors == expected


def test_workflows_are_in_both_places(instance: Instance, manifest: Manifest) -> None:
    for name in (workflow.name for workflow in manifest.workflows):
        for suffix in (".json", ".api.json"):
            digest = hashlib.sha256((ROOT / "workflows" / f"{name}{suffix}").read_bytes()).hexdigest()
            places = ["/opt/gesso/workflows", "/workspace/ComfyUI/workflows"]
            places += ["/workspace/user/default/workflows"] if suffix == ".json" else []
            for path in places:
                assert instance.run(f"sha256sum {path}/{name}{suffix}").stdout.startswith(digest), (
                    path,
                    name,
                )
    listed = instance.json("/userdata?dir=workflows")
    assert {f"{workflow.name}.json" for workflow in manifest.workflows} <= set(listed)


def _published(mine: Instance, count: int) -> dict[str, dict[str, Any]]:
    """Subscribe as Krita does, through the gate, and return the graphs by the name that Krita shows."""

    async def listen() -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        base = f"{mine.url}/{mine.token}"
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{base}/ws?clientId=krita") as socket:
            await session.post(f"{base}/api/etn/workflow/subscribe", json={"client_id": "krita"})
            while len(found) < count:
                message = await socket.receive_json(timeout=60)
                if message["type"] == "etn_workflow_published":
                    publisher = message["data"]["publisher"]
                    found[f"{publisher['name']} ({publisher['id']})"] = message["data"]["workflow"]
        return found

    return asyncio.run(listen())


def test_the_workflows_are_in_kritas_graph_tab_and_again_after_a_restart(
    image: Image, instances: Instances, manifest: Manifest
) -> None:
    files = {w.shown_title: ROOT / f"workflows/{w.name}.api.json" for w in manifest.workflows}
    graphs = {title: json.loads(path.read_text()) for title, path in files.items()}
    mine = instances.start(image)
    mine.wait_until_healthy()
    for _ in range(2):
        found = _published(mine, len(graphs))
        assert all(" (gesso-" in name for name in found)
        assert {name.partition(" (")[0]: graph for name, graph in found.items()} == graphs
        mine.supervisor("restart comfyui")
        mine.wait_until_healthy()
    assert "Z" not in mine.run("cat /proc/[0-9]*/stat | sed 's/.*) //' | cut -c1").stdout.split()


def test_a_workflow_is_checked_where_it_is_used(instance: Instance, manifest: Manifest) -> None:
    for name in (workflow.name for workflow in manifest.workflows):
        for suffix in (".json", ".api.json"):
            done = instance.run(f"gesso workflow check --strict /workspace/ComfyUI/workflows/{name}{suffix}")
            assert done.rc == 0, done.stdout
    other = "flux_vae" if manifest.family == "sdxl" else "sdxl_vae_fp16"
    own = manifest.vae.removeprefix("vae/").removesuffix(".safetensors")
    path = f"/workspace/ComfyUI/workflows/{manifest.workflows[0].name}.api.json"
    done = instance.run(f"sed s/{own}/{other}/ {path} > /tmp/broken.json; gesso workflow check /tmp/broken.json")
    assert done.rc == 1
    assert "vae-lock" in done.stdout
    assert instance.run("gesso workflow check /opt/gesso/build.json").rc == 2


@pytest.mark.parametrize("path", ["/", "/object_info", "/system_stats", "/prompt", "/ws", "/userdata?dir=workflows"])
def test_without_the_token_everything_is_401(instance: Instance, path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        answer = requests.request(method, f"{instance.url}{path}", timeout=30)
        assert answer.status_code == 401, method
        assert answer.json()["error"].startswith("Token missing or wrong")
        assert instance.token not in answer.text


def test_wrong_tokens_are_401_and_in_no_log(instance: Instance) -> None:
    for wrong in (
        "wrong-token-0123456789",
        instance.token[:-1],
        f"{instance.token}x",
        instance.token.swapcase(),
    ):
        for path, headers in (
            (f"/{wrong}/object_info", {}),
            ("/object_info", {"Authorization": f"Bearer {wrong}"}),
        ):
            assert requests.get(f"{instance.url}{path}", headers=headers, timeout=30).status_code == 401
    logs = instance.run("cat /var/log/gesso/*").stdout + instance.logs()
    assert "wrong-token" not in logs
    assert instance.token not in logs


def test_access_by_path_and_by_bearer_token(instance: Instance) -> None:
    assert "system" in instance.json("/system_stats")
    bearer = {"Authorization": f"Bearer {instance.token}"}
    answer = requests.get(f"{instance.url}/system_stats", headers=bearer, timeout=30)
    assert answer.status_code == 200
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    page = requests.get(f"{instance.url}/{instance.token}", timeout=30)
    assert page.status_code == 200
    assert page.url.endswith("/")


def test_a_websocket_works_through_the_path(instance: Instance) -> None:
    async def first_message() -> Any:
        url = f"{instance.url}/{instance.token}/ws?clientId=test"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            return await socket.receive_json(timeout=30)

    assert asyncio.run(first_message())["type"] == "status"


def test_only_the_gate_listens_publicly(instance: Instance) -> None:
    assert _public_ports(instance.run("cat /proc/net/tcp /proc/net/tcp6").stdout) == {8188}


def _public_ports(table: str) -> set[int]:
    """Parse /proc/net/tcp: state 0A is LISTEN; an address is loopback if it is 127/8 or ::1."""
    rows = [line.split() for line in table.splitlines() if ":" in line]
    listening = [row[1].split(":") for row in rows if row[3] == "0A"]
    loopback = {"0100007F", "00000000000000000000000001000000", "0B00007F"}  # .11: Docker's own resolver
    return {int(port, 16) for address, port in listening if address not in loopback}


def test_the_image_has_its_record(image: Image, manifest: Manifest, record: dict[str, Any]) -> None:
    labels = image.labels
    assert labels["dev.gesso.arch"] == record["arch"] == manifest.arch
    assert labels["dev.gesso.trial"] == str(manifest.trial).lower()
    assert labels["dev.gesso.lock"] == record["lock"]
    assert [m["name"] for m in record["models"]] == [m.name for m in manifest.models]
    assert image.attrs["Config"]["Healthcheck"]["Test"] == ["CMD", "/opt/gesso/bin/health.py"]
    assert list(image.attrs["Config"]["ExposedPorts"]) == ["8188/tcp"]


def test_a_second_start_does_nothing(instance: Instance) -> None:
    before = instance.run("cat /run/gesso/supervisor.pid /run/gesso/supervisord.pid 2>/dev/null").stdout
    second = instance.run("timeout 20 entrypoint.sh")  # one that restarts everything would never end
    assert second.rc == 0
    assert "is already running" in second.stderr
    assert instance.run("cat /run/gesso/supervisor.pid /run/gesso/supervisord.pid 2>/dev/null").stdout == before


def test_it_stops_cleanly_and_restarts(image: Image, instances: Instances) -> None:
    mine = instances.start(image)
    mine.wait_until_healthy()
    mine.container.stop(timeout=30)
    mine.container.reload()
    assert mine.container.attrs["State"]["ExitCode"] == 0, "137 would be the engine's kill after the wait"
    mine.container.start()
    mine.wait_until_healthy()
    assert "system" in mine.json("/system_stats")


def test_comfyui_is_restarted_when_it_is_killed(image: Image, instances: Instances) -> None:
    mine = instances.start(image)
    mine.wait_until_healthy()
    before = mine.supervisor("pid comfyui")
    assert mine.run(f"kill -9 {before}").rc == 0
    mine.wait_until_healthy()
    assert mine.supervisor("pid comfyui") != before


def test_a_weak_token_is_refused(image: Image, instances: Instances) -> None:
    mine = instances.start(image, env={"GESSO_TOKEN": "short"})
    assert mine.container.wait(timeout=30)["StatusCode"] == 1
    assert "GESSO_TOKEN" in mine.logs()
    assert "next:" in mine.logs()


def test_a_generated_token_is_kept(image: Image, instances: Instances) -> None:
    mine = instances.start(image, env={"GESSO_TOKEN": ""})
    mine.wait_until_healthy()
    first = mine.run("gesso url").stdout.strip()
    mine.container.restart(timeout=30)
    mine.wait_until_healthy()
    assert mine.run("gesso url").stdout.strip() == first
    assert len(first.rsplit("/", 1)[1]) >= 32
    assert mine.run("stat -c %a /workspace/gesso/token /run/gesso/Caddyfile").stdout.split() == ["600", "600"]


def test_a_users_changed_workflow_is_kept(image: Image, instances: Instances, manifest: Manifest) -> None:
    mine = instances.start(image)
    mine.wait_until_healthy()
    name = f"{manifest.workflows[0].name}.json"
    mine.run(f"echo mine > /workspace/user/default/workflows/{name}")
    mine.container.restart(timeout=30)
    mine.wait_until_healthy()
    assert mine.run(f"cmp /workspace/user/default/workflows/{name} /opt/gesso/workflows/{name}").rc == 0
    assert mine.run("cat /workspace/gesso/replaced/*").stdout == "mine\n"
