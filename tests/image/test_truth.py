"""`ready` is true: asked through the public port, of this very instance. What keeps Krita away is named, and mended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from docker.models.images import Image

    from .conftest import Instance, Instances

TOKEN = "example-token-0123456789"
TAKE = "python3 -m http.server {0} >/dev/null 2>&1 & sleep 1; exec entrypoint.sh"
OPEN = "import socket, time; s = socket.create_server(('0.0.0.0', 18188)); time.sleep(600)"
PID = """\
import pathlib, sys
for path in sorted(pathlib.Path("/proc").glob("[0-9]*/cmdline"), key=lambda path: int(path.parent.name)):
    try:
        words = path.read_bytes().replace(bytes(1), b" ").decode()
    except OSError:
        continue
    if words.startswith(sys.argv[1]):
        print(path.parent.name)
"""
AGENT = "/opt/gesso/venv/bin/python /opt/gesso/venv/bin/gesso agent"
COMFYUI = "/opt/venv/bin/python /opt/ComfyUI/main.py"


def _pid(mine: Instance, words: str) -> str:
    """Return the process whose command line begins with these words; empty if there is none."""
    found: str = mine.host.run("python3 -c %s %s", PID, words).stdout
    return found.partition("\n")[0]


@pytest.fixture(scope="module")
def mine(instances: Instances, image: Image) -> Instance:
    started = instances.start(image)
    started.wait_until_healthy()
    return started


@pytest.mark.parametrize("port", [8188, 18188])
def test_a_port_that_another_program_has(image: Image, instances: Instances, port: int) -> None:
    mine = instances.start(image, entrypoint=["sh", "-c"], command=[TAKE.format(port)])
    found = mine.wait_for_state("failed")
    assert f"port {port}" in found["why"]
    assert f"`python3 -m http.server {port}` (process " in found["why"]
    health = mine.run("gesso health")
    assert health.rc == 1
    assert f"port {port}" in health.stdout
    assert mine.run("/opt/gesso/bin/health.py").rc == 1
    heal = mine.run("gesso heal")
    assert heal.rc == 1
    assert f"port {port}" in heal.stdout
    url = mine.run("gesso url")
    assert url.stdout.strip().endswith(mine.token)
    assert f"port {port}" in url.stderr
    mine.run(f"kill {_pid(mine, f'python3 -m http.server {port}')}")
    mine.wait_until_healthy()  # without anybody's help
    mine.container.remove(force=True)


def test_two_instances_in_one_network_namespace(image: Image, instances: Instances, mine: Instance) -> None:
    second = instances.start(image, network_mode=f"container:{mine.container.id}")
    found = second.wait_for(
        lambda s: s["state"] == "failed" and "port 18188" in s["why"] and "port 8188" in s["why"], "both ports named"
    )
    assert "outside of this container" in found["why"]
    assert "port 8188" in second.run("gesso url").stderr
    for _ in range(20):  # the first keeps every request
        answer = requests.get(f"{mine.url}/{mine.token}/prompt", timeout=30)
        assert answer.headers["X-Gesso-Instance"] == mine.run("cat /run/gesso/instance-id").stdout.strip()
    assert mine.run("gesso health").rc == 0
    second.container.remove(force=True)


def test_a_frozen_agent_is_replaced(mine: Instance) -> None:
    frozen = _pid(mine, AGENT)
    mine.run(f"kill -STOP {frozen}")
    deadline = time.monotonic() + 90
    while (now := _pid(mine, AGENT)) in {"", frozen} and time.monotonic() < deadline:
        time.sleep(1)
    assert now not in {"", frozen}
    mine.wait_until_healthy()
    assert "does not react" in mine.run("gesso logs watchdog").stdout


def test_a_damaged_configuration_of_a_dead_gate(mine: Instance) -> None:
    mine.run(r"printf '\377\376{' > /run/gesso/Caddyfile")
    assert mine.run("gesso url").rc == 0
    assert mine.run("gesso status").rc == 0
    mine.run(f"kill -KILL {_pid(mine, 'caddy run')}")
    mine.wait_for(
        lambda s: s["state"] == "ready" and any("was rewritten" in e["text"] for e in s["errors"]), "gate that is back"
    )
    assert requests.get(f"{mine.url}/{mine.token}/prompt", timeout=30).status_code == 200


def test_a_frozen_gate_is_replaced(mine: Instance) -> None:
    frozen = _pid(mine, "caddy run")
    mine.run(f"kill -STOP {frozen}")
    mine.wait_for_state("starting", "failed", within=60)
    mine.wait_for_state("ready", within=90)
    assert _pid(mine, "caddy run") not in {"", frozen}


def test_comfyui_open_to_the_network_is_stopped(mine: Instance) -> None:
    """A node pack may do what GESSO_COMFY_ARGS may not."""
    pack = f"import os, sys\nif '--listen' in sys.argv: os.execv(sys.executable, [sys.executable, '-c', {OPEN!r}])\n"
    mine.put("/opt/ComfyUI/custom_nodes/opener.py", pack.encode())
    mine.supervisor("restart comfyui")
    found = mine.wait_for_state("failed")
    assert "0.0.0.0" in found["why"]
    assert "without the token" in found["why"]
    mine.run("rm /opt/ComfyUI/custom_nodes/opener.py")
    mine.supervisor("start comfyui")
    mine.wait_until_healthy()


def test_comfyui_that_restarts_itself_has_its_workflows(mine: Instance) -> None:
    """As ComfyUI-Manager does: exec in the same process."""
    pid = _pid(mine, COMFYUI)
    starts = mine.status()["comfyui"]["starts"]
    pack = (
        "import os, sys, threading, pathlib\nmark = pathlib.Path('/workspace/user/again')\n"
        "def again():\n    mark.unlink(); os.execv(sys.executable, [sys.executable, *sys.argv])\n"
        "if mark.exists(): threading.Timer(8, again).start()\n"
    )
    mine.put("/opt/ComfyUI/custom_nodes/again.py", pack.encode())
    mine.run("touch /workspace/user/again; chmod 777 /workspace/user /workspace/user/again")
    mine.supervisor("restart comfyui")
    mine.wait_for(lambda s: any("restarted itself" in e["text"] for e in s["errors"]), "restart in one process", 60)
    mine.wait_until_healthy()
    assert mine.status()["comfyui"]["published"]
    assert _pid(mine, COMFYUI) != pid  # by the first restart
    assert mine.status()["comfyui"]["starts"] == starts + 1
    mine.run("rm /opt/ComfyUI/custom_nodes/again.py")


@pytest.mark.usefixtures("with_models")
def test_heal_says_what_the_state_says(mine: Instance, manifest: Any) -> None:
    """An optional model that cannot be fetched: degraded, and a heal does not call that nothing."""
    optional = next((model.name for model in manifest.models if model.tier != "required"), None)
    if optional is None:
        pytest.skip("this architecture has no optional model: this was not run")
    mine.mirror(f"/{optional}", "404")
    mine.run(f"rm /workspace/models/{optional}")
    mine.wait_for_state("degraded", within=60)
    for flags in ("--dry-run", ""):
        done = mine.run(f"gesso heal {flags}")
        assert done.rc != 0
        assert optional in done.stdout
        assert "nothing is wrong" not in done.stdout
    mine.mirror(f"/{optional}", "healthy")
    done = mine.run("gesso heal")
    assert done.rc == 0, done.stdout
    assert mine.wait_for_state("ready", within=60)
