"""Chaos during a fetch: the disk fills up, the network disconnects and reconnects; and the memory of a fetch.

The faults are real: a volume of limited size that other data fills, and models in another container, behind https, on
a network that the engine disconnects.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import docker
import pytest

from gesso import report

from .resident import LIMIT, SERVING, resident, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from docker.models.images import Image
    from docker.models.networks import Network

    from gesso.manifest.schema import Manifest

    from .conftest import Instance, Instances

BLOCK = 512 << 10  # bytes: an interrupted file is resumed in units of these
HOST = "models"  # the other container's name on the network
SERVE = """
printf %s "$CERT" > /tmp/cert.pem; printf %s "$KEY" > /tmp/key.pem
exec /opt/gesso/venv/bin/python /opt/gesso/mirror/mirror --root /opt/gesso/mirror/files --host 0.0.0.0 --port 443 \
  --tls /tmp/cert.pem /tmp/key.pem
"""
# The same image, but its models are fetched from elsewhere, and it has no mirror.
FROM_OTHER_HOST = f"""
printf %s "$CERT" > /tmp/cert.pem; rm -r /opt/gesso/mirror
sed -i 's#http://127.0.0.1:18190/#https://{HOST}/#' /opt/gesso/build.json
exec entrypoint.sh
"""
CALL = """
import ssl, sys, urllib.request as r
request = r.Request("https://127.0.0.1/_mirror/" + sys.argv[1], sys.argv[2].encode() or None)
print(r.urlopen(request, context=ssl._create_unverified_context()).read().decode())
"""


def _largest(manifest: Manifest) -> tuple[str, int]:
    """Return the required model that is fetched last."""
    return max(((m.name, m.size or 0) for m in manifest.models if m.tier == "required"), key=lambda one: one[1])


def _stages(status: dict[str, Any]) -> dict[str, str]:
    return {model["name"]: model["stage"] for model in status["models"]}


def _done(status: dict[str, Any], name: str) -> int:
    return int(next(model["done"] for model in status["models"] if model["name"] == name))


pytestmark = pytest.mark.usefixtures("with_models")


@pytest.fixture
def narrow(instances: Instances, image: Image, manifest: Manifest) -> Iterator[Instance]:
    """An instance on a volume of 64 MB, whose largest model downloads slowly."""
    volume = instances.volume(size=64_000_000)
    mine = instances.start_idle(image, volumes={volume: {"bind": "/workspace", "mode": "rw"}})
    mine.mirror(f"/{_largest(manifest)[0]}", "slow", rate=50_000)
    mine.container.exec_run(["entrypoint.sh"], detach=True)
    yield mine
    mine.container.remove(force=True, v=True)


def _fill(mine: Instance) -> None:
    filled = mine.run("dd if=/dev/zero of=/workspace/models/somebodys bs=64k; dd if=/dev/zero of=/workspace/last bs=1k")
    assert filled.stderr.count("No space left on device") == 2


def test_the_disk_fills_up_before_a_model_has_its_space(narrow: Instance, manifest: Manifest) -> None:
    """Its first bytes are downloading: it fails with a message, and recovers once there is space again."""
    name, _ = _largest(manifest)
    others = {m.name for m in manifest.models if m.tier == "required"} - {name}
    found = narrow.wait_for(lambda s: {_stages(s).get(each) for each in others} == {"verified"}, "all but one", 90)
    assert (_stages(found)[name], found["state"]) == ("waiting", "fetching")
    _fill(narrow)
    failed = narrow.wait_for_state("failed", within=90)
    assert name in failed["why"]
    assert "No space left on device" in failed["why"] or "do not fit" in failed["why"]
    assert "make room" in failed["next"]
    assert narrow.run("gesso health").rc == 1
    assert narrow.run("gesso url").rc == 0
    assert narrow.run(f"ls /workspace/models/{name}").rc != 0
    narrow.run("rm /workspace/models/somebodys /workspace/last")
    ready = narrow.wait_for_state("ready", within=120)
    assert _stages(ready)[name] == "verified"
    assert narrow.run("gesso verify --full").rc == 0


def test_the_disk_fills_up_after_a_model_has_its_space(narrow: Instance, manifest: Manifest) -> None:
    """Its space was allocated at the start: it is fetched, and skipped optional ones are reported."""
    name, size = _largest(manifest)
    narrow.wait_for(lambda s: BLOCK <= _done(s, name) < size, f"a part of {name}", 90)
    _fill(narrow)
    found = narrow.wait_for_state("degraded", "failed", within=180)
    assert found["state"] == "degraded"
    assert any("No space left on device" in note or "do not fit" in note for note in found["notes"])
    assert {_stages(found)[m.name] for m in manifest.models if m.tier == "required"} == {"verified"}
    assert narrow.run(f"gesso verify --full {name}").rc == 0
    assert "system" in narrow.json("/system_stats")


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, str]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    more = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-days", "2"]
    subprocess.run([*command, *more, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return {"CERT": cert.read_text(), "KEY": key.read_text()}


@pytest.fixture
def network(client: docker.DockerClient) -> Iterator[Network]:
    made = client.networks.create(f"gesso-test-models-{secrets.token_hex(4)}", check_duplicate=True)
    yield made
    made.reload()
    for container in made.containers:
        with suppress(docker.errors.APIError):
            made.disconnect(container, force=True)
    made.remove()


@pytest.fixture
def elsewhere(
    instances: Instances, image: Image, network: Network, certificate: dict[str, str]
) -> Callable[[str, dict[str, Any] | None], Any]:
    """Serve the models in another container; return a function that calls its mirror's control API."""
    server = instances.start(image, env=certificate, entrypoint=["sh", "-c", SERVE], network=network.name)
    network.disconnect(server.container)
    network.connect(server.container, aliases=[HOST])
    server.run("for i in $(seq 100); do grep -q :01BB /proc/net/tcp && break; sleep 0.1; done")

    def call(endpoint: str, body: dict[str, Any] | None = None) -> Any:
        command = ["/opt/gesso/venv/bin/python", "-c", CALL, endpoint, json.dumps(body) if body else ""]
        answer: Any = server.container.exec_run(command)
        assert answer.exit_code == 0, answer.output
        return json.loads(answer.output)

    return call


def test_the_network_is_disconnected_during_a_fetch(
    instances: Instances,
    image: Image,
    manifest: Manifest,
    network: Network,
    certificate: dict[str, str],
    elsewhere: Callable[..., Any],
) -> None:
    """It becomes ready by itself, and complete files are not fetched a second time."""
    name, size = _largest(manifest)
    elsewhere("behave", {"path": f"/{name}", "behaviour": "slow", "rate": 60_000})
    env = {"CERT": certificate["CERT"], "SSL_CERT_FILE": "/tmp/cert.pem"}
    mine = instances.start(image, env=env, entrypoint=["sh", "-c", FROM_OTHER_HOST], network=network.name)
    mine.wait_for(lambda s: BLOCK <= _done(s, name) < size, f"a part of {name}", 120)
    network.disconnect(mine.container)
    at_cut = mine.status()
    here = [model for model, stage in _stages(at_cut).items() if stage == "verified"]
    assert here
    assert at_cut["state"] == "fetching"
    failed = mine.wait_for_state("failed", within=240)
    assert name in failed["why"]
    assert "network" in failed["next"]
    missing = size - _done(failed, name)
    before = len(elsewhere("log"))
    elsewhere("behave", {"path": f"/{name}", "behaviour": "healthy"})
    network.connect(mine.container)
    mine.wait_for_state("ready", within=180)
    later = elsewhere("log")[before:]
    assert {row["path"][1:] for row in later} & set(here) == set(), "fetched again, though it was complete"
    requested = sum(row["span"][1] for row in later if row["path"] == f"/{name}")
    assert requested == missing <= size - BLOCK, "of the interrupted one only the missing part"
    assert mine.run("gesso verify --full").rc == 0


def test_agent_gate_and_supervisor_stay_small_during_a_fetch(
    instances: Instances, image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    """150 MB resident together; the fetching process is printed beside them."""
    mine = instances.start_idle(image)
    mine.mirror("*", "slow", rate=100)
    mine.container.exec_run(["entrypoint.sh"], detach=True)
    mine.wait_for(lambda s: "fetching" in _stages(s).values() and s["comfyui"]["published"], "models coming", 90)
    sizes = resident(mine)
    with capsys.disabled():
        report.progress(f"\n{shown(sizes)}")
    assert "fetch" in sizes
    assert sum(sizes[each] for each in SERVING) < LIMIT, sizes
