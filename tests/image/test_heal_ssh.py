"""`invoke heal --ssh` on a gesso image over a real sshd, and through an instance number of (a simulated) Vast.ai."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from . import incident
from .foreign import Foreign
from .options import ROOT
from .test_launch import MODES, with_sshd  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.images import Image

    from gesso.manifest.schema import Manifest

    from .conftest import Instances

KEY = "a-key-of-vast-0123456789"
TOOLING = "/opt/ComfyUI/custom_nodes/comfyui-tooling-nodes"


pytestmark = pytest.mark.usefixtures("with_models")


@pytest.fixture(scope="module")
def foreign(
    with_sshd: Image,  # noqa: F811
    instances: Instances,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Foreign]:
    """An instance as Vast runs it in ssh mode, ready; its host key is not known."""
    ports = {"8188/tcp": ("127.0.0.1", None), "22/tcp": ("127.0.0.1", None)}
    mine = instances.start(with_sshd, entrypoint=["sh", "-c", MODES["ssh"]], ports=ports)
    foreign_ssh = Foreign(mine, tmp_path_factory.mktemp("ssh"), "")
    foreign_ssh.prepare()
    mine.wait_until_healthy()
    yield foreign_ssh
    mine.container.remove(force=True, v=True)


def _invoke(foreign: Foreign, *flags: str, **more: str) -> subprocess.CompletedProcess[str]:
    _, env = foreign.command()
    command = [sys.executable, "-m", "invoke", "heal", *flags]
    env = {**env, **more}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False)


def test_a_sound_instance_gets_no_bundle(foreign: Foreign) -> None:
    assert _invoke(foreign, "--ssh", foreign.address).returncode == 7
    done = _invoke(foreign, "--ssh", foreign.address, "--accept-new-host-key")
    assert done.returncode == 0, done.stderr
    assert "a gesso image" in done.stderr
    assert done.stdout.startswith("ok: nothing is wrong")
    assert foreign.instance.run("ls -d /root/.cache/gesso").rc != 0


def test_damage_is_named_and_repaired(foreign: Foreign, manifest: Manifest) -> None:
    workflow = incident.graph(manifest)
    foreign.instance.run(f"rm -rf {TOOLING}; echo '{{}}' > {workflow}")
    done = _invoke(foreign, "--ssh", foreign.address, "--dry-run", "--json")
    named = {damage["name"] for damage in json.loads(done.stdout)["damages"]}
    assert (done.returncode, named >= {"comfyui-tooling-nodes", workflow}) == (1, True)
    done = _invoke(foreign, "--ssh", foreign.address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"repaired: pack comfyui-tooling-nodes", done.stdout)
    assert (
        foreign.instance.run(f"cat {workflow}").stdout == (ROOT / "workflows" / workflow.rsplit("/", 1)[-1]).read_text()
    )
    foreign.instance.wait_until_healthy()
    assert _invoke(foreign, "--ssh", foreign.address).stdout.startswith("ok: nothing is wrong")


def test_the_incident_is_healed_from_outside(foreign: Foreign, manifest: Manifest) -> None:
    incident.prepare(foreign.instance)
    starts = foreign.instance.status()["comfyui"]["starts"]
    with incident.happened(foreign.instance, manifest):
        done = _invoke(foreign, "--ssh", foreign.address, "--dry-run", "--json")
        named = {damage["name"] for damage in json.loads(done.stdout)["damages"]}
        assert (done.returncode, named) == (1, incident.names(manifest))
    done = _invoke(foreign, "--ssh", foreign.address)
    assert done.returncode == 0, done.stdout + done.stderr
    incident.assert_all_right(foreign.instance, manifest)
    assert foreign.instance.status()["comfyui"]["starts"] == starts + 1
    assert _invoke(foreign, "--ssh", foreign.address).stdout.startswith("ok: nothing is wrong")


@contextmanager
def _vast(host: str, port: int) -> Iterator[str]:
    row = {"id": 7, "actual_status": "running", "image_uuid": "x/gesso:sdxl", "public_ipaddr": host,
           "ports": {"22/tcp": [{"HostPort": str(port)}]}}  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            authorized = self.headers.get("Authorization") == f"Bearer {KEY}"
            data = json.dumps({"instances": row} if authorized else {"msg": "Invalid user key"}).encode()
            self.send_response(200 if authorized else 401)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_by_instance_number(foreign: Foreign) -> None:
    host, _, port = foreign.address.removeprefix("root@").rpartition(":")
    with _vast(host, int(port)) as url:
        done = _invoke(foreign, "--instance", "7", "--dry-run", VAST_URL=url, VAST_API_KEY=KEY)
        assert done.returncode == 0, done.stderr
        assert f"instance 7: SSH at root@{host}:{port}" in done.stderr
        assert KEY not in done.stdout + done.stderr
        wrong = _invoke(foreign, "--instance", "7", VAST_URL=url, VAST_API_KEY="another-key-0123")
        assert wrong.returncode == 7
        assert "does not accept the key (401: Invalid user key)" in wrong.stderr
