"""Every launch mode of an instance: from nothing, repeatedly, on a kept volume, and without a network.

In Vast's ssh and jupyter modes the entrypoint is Vast's: it leaves `/.launch`, starts an sshd or a Jupyter, and runs
`entrypoint.sh` as `onstart`, at every start. Its first process does not reap orphaned processes.
"""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import docker
import pytest

from .test_serving import _public_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from docker.models.images import Image

    from gesso.manifest.schema import Manifest

    from .conftest import Instance, Instances

VAST = {
    "PUBLIC_IPADDR": "203.0.113.9", "VAST_TCP_PORT_8188": "40123", "CONTAINER_ID": "7", "GPU_COUNT": "0",
    "CONTAINER_API_KEY": "api-key-0123456789", "OPEN_BUTTON_TOKEN": "open-button-0123456789", "GESSO_TOKEN": "",
    "JUPYTER_TOKEN": "jupyter-0123456789", "HF_TOKEN": "hf_0123456789",
}  # fmt: skip
ONSTART = "touch /.launch; {before} entrypoint.sh; exec sleep infinity"
MODES = {
    "args": None,
    "ssh": ONSTART.format(before="mkdir -p /run/sshd; /usr/sbin/sshd;"),
    "jupyter": ONSTART.format(before="python3 -m http.server 8080 >/dev/null 2>&1 &"),
}
# Who runs it, and on what root. Vast always starts as root, and sshd needs root: ssh mode has only that.
GUISES: dict[str, dict[str, Any]] = {"": {}, "-user": {"user": "1000:1000"}, "-read-only": {"read_only": True}}
LAUNCHES = {f"{mode}{guise}": (mode, guise) for mode in MODES for guise in GUISES if not guise or mode != "ssh"}
SSHD = """\
FROM {image}
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends openssh-server \
 && rm -rf /var/lib/apt/lists/*
"""


@pytest.fixture(scope="module")
def with_sshd(client: docker.DockerClient, image: Image) -> Iterator[Image]:
    """The image as Vast makes it in ssh mode: with an sshd."""
    text = SSHD.format(image=image.id).encode()
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    context.seek(0)
    try:
        made, _ = client.images.build(fileobj=context, custom_context=True, rm=True, network_mode="host")
    except Exception as error:  # noqa: BLE001 - whatever it is: then nothing of ssh mode was tested, and that is no pass
        pytest.fail(f"no sshd could be put into the image: {error}", pytrace=False)
    yield made
    with suppress(docker.errors.APIError):  # a container that a failed test left has it until the very end
        client.images.remove(str(made.id), force=True)


@dataclass
class Launcher:
    """Starts instances of one launch mode, as one user."""

    mode: str
    guise: str
    image: Image
    instances: Instances

    def start(self, **options: Any) -> Instance:
        script = MODES[self.mode]
        entry = {} if script is None else {"entrypoint": ["sh", "-c", script]}
        if self.guise == "-read-only" and "volumes" not in options:
            options["volumes"] = {self.instances.volume(): {"bind": "/workspace", "mode": "rw"}}
        mine = self.instances.start(self.image, env=VAST, **entry, **GUISES[self.guise], **options)
        mine.token = VAST["OPEN_BUTTON_TOKEN"]
        return mine


@pytest.fixture(scope="module", params=LAUNCHES)
def launcher(request: pytest.FixtureRequest, image: Image, instances: Instances) -> Launcher:
    mode, guise = LAUNCHES[str(request.param)]
    chosen = request.getfixturevalue("with_sshd") if mode == "ssh" else image
    return Launcher(mode, guise, chosen, instances)


@pytest.fixture(scope="module")
def launched(launcher: Launcher) -> Iterator[Instance]:
    mine = launcher.start()
    mine.wait_until_healthy()
    yield mine
    mine.container.remove(force=True, v=True)


def _supervisors(instance: Instance) -> list[str]:
    listed = instance.run("grep -l supervisord /proc/[0-9]*/cmdline | cut -d/ -f3").stdout.split()
    return [pid for pid in listed if "--configuration" in instance.run(f"tr '\\0' ' ' < /proc/{pid}/cmdline").stdout]


def test_first_boot(launched: Instance, launcher: Launcher) -> None:
    assert launched.run("gesso url").stdout == f"http://203.0.113.9:40123/{VAST['OPEN_BUTTON_TOKEN']}\n"
    assert "system" in launched.json("/system_stats")
    extra = {"ssh": {22}, "jupyter": {8080}}.get(launcher.mode, set())
    assert _public_ports(launched.run("cat /proc/net/tcp /proc/net/tcp6").stdout) == {8188} | extra
    assert "--cpu" in launched.run("cat /proc/$(pgrep -f ComfyUI/main.py || echo self)/cmdline").stdout or (
        "no NVIDIA GPU" in launched.run("gesso logs comfyui").stdout
    )


def test_a_second_start_while_it_runs_does_nothing(launched: Instance) -> None:
    before = _supervisors(launched)
    assert "is already running" in launched.run("entrypoint.sh").stderr
    assert _supervisors(launched) == before
    assert len(before) == 1


def test_sessions_know_the_environment_but_no_secret(launched: Instance, launcher: Launcher) -> None:
    text = launched.run("cat /etc/environment").stdout
    if launcher.mode == "args" or launcher.guise:  # these cannot write it, and work without
        assert "gesso" not in text
        return
    assert 'VAST_TCP_PORT_8188="40123"' in text
    assert 'PIP_CONSTRAINT="/opt/gesso/constraints.txt"' in text
    for name, value in VAST.items():
        if re.search("TOKEN|KEY", name) and value:
            assert value not in text, name


def test_reboot(launched: Instance, launcher: Launcher) -> None:
    launched.wait_until_complete()
    verified = launched.run("ls -i /workspace/models/checkpoints").stdout
    # Vast's own first process does not forward the signal, so the programs are killed.
    launched.container.restart(timeout=20 if launcher.mode == "args" else 1)
    launched.wait_until_healthy()
    assert len(_supervisors(launched)) == 1
    assert launched.run("ls -i /workspace/models/checkpoints").stdout == verified, "fetched again, though it was there"
    assert launched.run("grep -c 'gesso: begin' /etc/environment").stdout.strip() in {"0", "1"}
    assert "system" in launched.json("/system_stats")


def test_a_kept_volume(launcher: Launcher, instances: Instances) -> None:
    volumes = {instances.volume(): {"bind": "/workspace", "mode": "rw"}}
    seen = []
    for _ in range(2):
        mine = launcher.start(volumes=volumes)
        mine.wait_until_complete()
        seen.append(mine.run("ls -i /workspace/models/checkpoints /workspace/models/vae").stdout)
        mine.container.remove(force=True)
    assert seen[0] == seen[1]


def test_without_a_network(launcher: Launcher) -> None:
    """A trial has its models on its own loopback: nothing else may need a network either."""
    mine = launcher.start(network_mode="none")
    mine.wait_until_healthy()
    assert mine.run("gesso health").rc == 0 or not mine.with_models
    mine.container.remove(force=True, v=True)


def test_a_models_folder_that_cannot_be_written(image: Image, instances: Instances, manifest: Manifest) -> None:
    """As a shared library of models may be mounted: gesso's records about it are then in the workspace."""
    if not manifest.trial:
        pytest.skip("the real models are out of reach of a test: this was not run")
    library = instances.volume()
    first = instances.start(image, volumes={library: {"bind": "/workspace/models", "mode": "rw"}})
    first.wait_until_complete()
    first.container.remove(force=True)
    mine = instances.start(image, volumes={library: {"bind": "/workspace/models", "mode": "ro"}})
    mine.wait_for_state("ready")
    assert mine.run("touch /workspace/models/x").rc != 0
    assert mine.run("ls /workspace/gesso/models").stdout
    mine.container.remove(force=True)


# --- a real ssh session


class Session:
    """A client with its own key."""

    def __init__(self, instance: Instance, folder: Path) -> None:
        key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        public = key.with_suffix(".pub").read_text().strip()
        instance.run(f"mkdir -p -m 700 /root/.ssh && echo '{public}' > /root/.ssh/authorized_keys")
        instance.container.reload()
        ports: dict[str, Any] = instance.container.ports
        port = ports["22/tcp"][0]["HostPort"]
        options = [f"-o{o}" for o in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")]
        self._words = ["ssh", "-i", str(key), "-p", port, *options, "root@127.0.0.1"]

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._words, command], capture_output=True, text=True, timeout=120, check=False)


def test_started_from_a_session_it_survives_the_sessions_end(
    with_sshd: Image, instances: Instances, tmp_path: Path
) -> None:
    command = ["sh", "-c", "touch /.launch; mkdir -p /run/sshd; exec /usr/sbin/sshd -D"]
    ports = {"8188/tcp": ("127.0.0.1", None), "22/tcp": ("127.0.0.1", None)}
    mine = instances.start(with_sshd, env={"PUBLIC_IPADDR": "203.0.113.9"}, entrypoint=command, ports=ports)
    session = Session(mine, tmp_path)
    started = session.run("PIP_CONSTRAINT=/opt/gesso/constraints.txt entrypoint.sh")
    assert started.returncode == 0, started.stderr
    mine.wait_until_healthy()
    later = session.run("env; gesso url; gesso status | head -1")
    assert "PIP_CONSTRAINT=/opt/gesso/constraints.txt" in later.stdout
    assert "/opt/gesso" in later.stdout
    (before,) = _supervisors(mine)
    mine.run(f"kill -9 {before}")
    deadline = time.monotonic() + 60
    while not (after := _supervisors(mine)) and time.monotonic() < deadline:
        time.sleep(0.2)
    mine.wait_until_healthy()
    assert len(after) == 1
    assert after != [before]
    assert "left over from an earlier run" in mine.run("cat /var/log/gesso/boot.log").stdout
    mine.container.remove(force=True, v=True)
