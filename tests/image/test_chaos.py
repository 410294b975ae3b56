"""Chaos in an instance: processes killed, models deleted and damaged, disks filled, networks disconnected.

Each ends `ready` again by itself, or `failed` or `degraded` with a reason; never with a wrong file in use.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import time
from typing import TYPE_CHECKING, Any

import pytest

from gesso import report

from . import incident

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import docker
    from docker.models.images import Image

    from gesso.manifest.schema import Manifest

    from .conftest import Instance, Instances

ROUNDS = 20
# Kills every supervised program as soon as it runs again, repeatedly.
KILL = """
import contextlib, json, os, signal, sys, time
from pathlib import Path
from gesso.runtime.services.supervisord import Supervisor
from gesso.errors import CheckError
supervisor, killed, end = Supervisor(Path("/run/gesso/supervisor.sock")), {}, time.monotonic() + 150
while time.monotonic() < end and min(killed.get(n, 0) for n in ("agent", "gate", "comfyui")) < int(sys.argv[1]):
    for program in supervisor.programs().values():
        alive = program.state == "RUNNING" or program.name == "comfyui"  # which is killed before it responds, too
        if alive and program.pid and killed.get(program.name, 0) < int(sys.argv[1]):
            with contextlib.suppress(ProcessLookupError):  # it ended by itself since it was listed: that does not count
                os.kill(program.pid, signal.SIGKILL)
                killed[program.name] = killed.get(program.name, 0) + 1
        elif program.state == "FATAL":  # the agent would, if it lived long enough
            supervisor.start(program.name)
    time.sleep(0.1)
print(json.dumps(killed))
"""

# SQLAlchemy 1.4 has no wheel for the image's Python: pip builds it and needs setuptools for that.
DOWNLOADS = (("--no-binary", "sqlalchemy", "sqlalchemy<2"), ("--only-binary", ":all:", "setuptools"))

pytestmark = pytest.mark.usefixtures("with_models")


@pytest.fixture(scope="module")
def victim(instances: Instances, image: Image) -> Iterator[Instance]:
    mine = instances.start(image)
    mine.wait_for_state("ready")
    yield mine
    mine.container.remove(force=True, v=True)


@pytest.fixture
def vae(manifest: Manifest) -> str:
    return next(m.name for m in manifest.models if m.kind == "vae" and m.tier == "required")


def _is_right(instance: Instance, name: str) -> bool:
    return bool(instance.run(f"gesso verify --full {name}").rc == 0)


def _said(status: dict[str, Any]) -> str:
    return "\n".join(error["text"] for error in status["errors"])


def test_a_deleted_model_is_fetched_again(victim: Instance, vae: str) -> None:
    victim.run(f"rm /workspace/models/{vae}")
    victim.wait_for(lambda s: f"{vae}: is gone" in _said(s) and s["state"] == "ready", "model that came again", 60)
    assert _is_right(victim, vae)


def test_one_changed_byte_is_detected(victim: Instance, vae: str) -> None:
    """And the bad file is quarantined before the good one is fetched."""
    path = f"/workspace/models/{vae}"
    victim.run(f"printf X | dd of={path} bs=1 seek=$(($(stat -c %s {path}) - 1)) conv=notrunc")
    victim.wait_for(lambda s: "wrong-hash" in _said(s) and s["state"] == "ready", "model that was put right", 60)
    assert _is_right(victim, vae)
    assert "wrong-hash" in victim.run("ls /workspace/models/.gesso/quarantine").stdout


def test_a_missing_source_is_reported_and_retried(victim: Instance, vae: str) -> None:
    victim.supervisor("stop mirror")
    victim.run(f"rm /workspace/models/{vae}")
    failed = victim.wait_for_state("failed", within=60)
    assert vae in failed["why"]
    assert failed["next"]
    assert victim.run("gesso health").rc == 1
    assert victim.run("gesso status").rc == 1
    victim.supervisor("start mirror")
    victim.wait_for_state("ready", within=90)
    assert _is_right(victim, vae)


def test_an_unavailable_optional_model_degrades(victim: Instance, manifest: Manifest) -> None:
    optional = [m.name for m in manifest.models if m.tier != "required"]
    if not optional:
        pytest.skip("this architecture has no optional model: this was not run")
    victim.mirror(f"/{optional[0]}", "404")
    victim.run(f"rm /workspace/models/{optional[0]}")
    degraded = victim.wait_for_state("degraded", within=60)
    assert optional[0] in degraded["why"]
    assert victim.run("gesso health").rc == 0
    victim.mirror(f"/{optional[0]}", "healthy")
    victim.wait_for_state("ready", within=90)


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Download what `pip install "sqlalchemy<2"` needs, with this machine's own pip; None if that fails."""
    folder = tmp_path_factory.mktemp("packages") / "older"
    for words in DOWNLOADS:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *words]
        done = subprocess.run(pip, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            return None
    return folder


def _bring_older(victim: Instance, downloaded: Path | None) -> str:
    """Put an older SQLAlchemy into /tmp/older; return what kind it is."""
    if downloaded is None:
        incident.prepare(victim)
        return "NOT a genuine SQLAlchemy 1.4: this machine's pip reaches no package index; a wheel that looks like one"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(downloaded, "older")
    assert victim.container.put_archive("/tmp", packed.getvalue())
    return f"genuine: {', '.join(sorted(path.name for path in downloaded.iterdir()))}"


def test_an_older_sqlalchemy_is_undone_before_comfyui_starts(
    victim: Instance, downloaded: Path | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The incident: `pip install "sqlalchemy<2"` with the constraints unset."""
    kind = _bring_older(victim, downloaded)
    with capsys.disabled():
        report.progress(f"\nan older SQLAlchemy, {kind}")
    version = "/opt/venv/bin/python -c 'import sqlalchemy; print(sqlalchemy.__version__)'"
    install = "/opt/venv/bin/python -m pip install --no-index --find-links /tmp/older 'sqlalchemy<2'"
    assert victim.run(install).rc != 0, "with the constraints set it is refused"
    done = victim.run(f"env -u PIP_CONSTRAINT -u UV_CONSTRAINT {install}")
    assert done.rc == 0, done.stderr
    assert victim.run(version).stdout.startswith("1.4.")
    assert "ImportError" in victim.run("/opt/venv/bin/python -c 'from sqlalchemy.orm import mapped_column'").stderr
    before = victim.status()["comfyui"]["starts"]
    victim.supervisor("restart comfyui")
    victim.wait_for(
        lambda s: s["comfyui"]["starts"] > before and s["state"] == "ready", "ComfyUI with the right one", 60
    )
    assert "restoring it from the image" in victim.run("cat /var/log/gesso/comfyui.log").stdout
    assert victim.run(version).stdout.startswith("2.")
    assert victim.run("/opt/venv/bin/python -c 'from sqlalchemy.orm import mapped_column'").rc == 0


def test_workflows_are_published_again_after_each_restart(victim: Instance) -> None:
    before = victim.status()["comfyui"]["starts"]
    victim.supervisor("restart comfyui")
    found = victim.wait_for(lambda s: s["comfyui"]["starts"] > before and s["comfyui"]["published"], "workflows", 60)
    assert found["comfyui"]["starts"] == before + 1
    victim.wait_for_state("ready", within=30)


def test_the_network_is_disconnected_and_reconnected(victim: Instance, client: docker.DockerClient) -> None:
    network: Any = client.networks.get("bridge")
    network.disconnect(victim.container)
    time.sleep(1)
    assert victim.status()["state"] == "ready"  # nothing of it is outside
    network.connect(victim.container)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            assert "system" in victim.json("/system_stats")
            break
        except OSError:
            time.sleep(0.3)
    else:
        pytest.fail("the gate did not answer again")


def test_every_process_is_killed_twenty_times_in_a_row(victim: Instance) -> None:
    done: Any = victim.container.exec_run(["/opt/gesso/venv/bin/python", "-c", KILL, str(ROUNDS)])
    assert done.exit_code == 0, done.output
    killed = json.loads(done.output)
    assert [killed[name] for name in ("agent", "gate", "comfyui")] == [ROUNDS] * 3
    victim.wait_for_state("ready", within=150)
    for name in ("agent", "gate", "comfyui", "log", "mirror"):
        state = victim.supervisor(f"status {name}")
        assert "RUNNING" in state or "STARTING" in state, (state, done.output)
    assert "system" in victim.json("/system_stats")
    assert victim.run("gesso verify --full").rc == 0


@pytest.mark.parametrize("too_large", ["required", "optional"])
def test_a_disk_that_is_too_small(instances: Instances, image: Image, manifest: Manifest, too_large: str) -> None:
    """No byte is fetched if the required ones do not fit; optional ones are skipped by name."""
    sizes = {m.name: m.size or 0 for m in manifest.models}
    required = sum(m.size or 0 for m in manifest.models if m.tier == "required")
    optional = max((s for n, s in sizes.items() if n not in {m.name for m in manifest.models if m.tier == "required"}),
                   default=0)  # fmt: skip
    spare = 400_000
    if too_large == "optional" and optional < 1.5 * spare:
        pytest.skip("this architecture's optional trial models are too small to be in the way: this was not run")
    room = required // 2 if too_large == "required" else int((required + spare) * 1.03)
    mine = instances.start(image, tmpfs={"/workspace/models": f"size={room}"})
    if too_large == "required":
        found = mine.wait_for_state("failed", within=90)
        assert "do not fit" in found["why"]
        assert "make room" in found["next"]
        assert mine.run("find /workspace/models -name '*.safetensors' -o -name '*.part' | head").stdout == ""
        assert mine.run("gesso url").rc == 0
    else:
        found = mine.wait_for_state("degraded", within=90)
        assert any("do not fit" in note for note in found["notes"])
        for flags in ("--dry-run", ""):  # what the state says, a heal says: it cannot repair it, and it is not nothing
            heal = mine.run(f"gesso heal {flags}")
            assert heal.rc == 1, heal.stdout
            assert "degraded: Krita can work; missing: " in heal.stdout
    mine.container.remove(force=True, v=True)
