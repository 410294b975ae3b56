"""A real image with its models on a separate mirror: three containers that share one network, like one machine.

Plain http is for loopback only, so the mirror must be on the image's own loopback; the real image does not contain it.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from tests.image.conftest import Instance
from tests.image.options import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import docker
    from docker.models.containers import Container

TOKEN = "real-token-0123456789"
PYTHON = "/opt/gesso/venv/bin/python"
MIRROR = f"exec nice -n 5 {PYTHON} /mirror/mirror --root /files"


class Pod:
    """The network with the mirror; the image under test is started in it."""

    def __init__(self, client: docker.DockerClient, image: str, files: Path, stack: ExitStack) -> None:
        self._client, self._image, self._stack = client, image, stack
        binds = {
            str(files): {"bind": "/files", "mode": "ro"},
            str(ROOT / "images/standin/mirror"): {"bind": "/mirror/mirror", "mode": "ro"},
        }
        self._network = self._run(entrypoint=["sleep", "infinity"], ports={"8188/tcp": ("127.0.0.1", None)})
        self._network.reload()
        ports: dict[str, Any] = self._network.ports
        self.port = str(ports["8188/tcp"][0]["HostPort"])
        self._mirror = Instance(self._beside(entrypoint=["sh", "-c", MIRROR], volumes=binds), "")
        self._mirror.run("for i in $(seq 100); do grep -q :470E /proc/net/tcp && break; sleep 0.1; done")
        self.behave = self._mirror.mirror

    def start(self) -> Instance:
        """Start the image with an empty volume, as Vast would with this port."""
        volume = self._client.volumes.create()
        self._stack.callback(volume.remove, force=True)
        env = {"GESSO_TOKEN": TOKEN, "VAST_TCP_PORT_8188": self.port}
        mounts = {volume.name: {"bind": "/workspace", "mode": "rw"}}
        return Instance(self._beside(environment=env, volumes=mounts), TOKEN)

    def record(self) -> dict[str, Any]:
        """Return the image's own record."""
        found: dict[str, Any] = json.loads(self._mirror.run("cat /opt/gesso/build.json").stdout)
        return found

    def _beside(self, **options: Any) -> Container:
        return self._run(network_mode=f"container:{self._network.id}", **options)

    def _run(self, **options: Any) -> Container:
        made = self._client.containers.run(self._image, detach=True, **options)
        self._stack.callback(made.remove, force=True, v=True)
        return made


@contextmanager
def pod(client: docker.DockerClient, image: str, files: Path) -> Iterator[Pod]:
    """Start a pod, and remove all of it in the end."""
    with ExitStack() as stack:
        yield Pod(client, image, files, stack)


class Clock:
    """Prints when things happened, in seconds since it was created."""

    def __init__(self, name: str, on_progress: Callable[[str], None]) -> None:
        self._name, self._say, self._began = name, on_progress, time.monotonic()

    def report(self, what: str) -> None:
        self._say(f"{self._name}, {time.monotonic() - self._began:5.1f} s: {what}")
