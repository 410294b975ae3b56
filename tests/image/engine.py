"""Which engine is tested on, and the host of its published ports: this machine's, DOCKER_HOST's, or a context's."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import docker
import pytest

if TYPE_CHECKING:
    from docker.models.images import Image

_HERE = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Engine:
    """A client, and the host of the containers' ports; `bind` is the address that they are bound to there.

    On another host they are bound to every address, behind the gate and a token made for the test.
    """

    client: docker.DockerClient
    host: str
    bind: str


def connect() -> Engine:
    """Find the engine as the docker command does: DOCKER_HOST, else the current context, else the local socket."""
    given = os.environ.get("DOCKER_HOST") or _of_context()
    if given and "DOCKER_HOST" not in os.environ:
        os.environ["DOCKER_HOST"] = given  # testinfra calls the docker command, which must use the same engine
    where = urlsplit(given or "").hostname
    client = docker.from_env(use_ssh_client=bool(given and given.startswith("ssh:")))
    return Engine(client, where or "127.0.0.1", "127.0.0.1" if where in {None, *_HERE} else "0.0.0.0")


def _of_context() -> str:
    """Return the address of the docker command's context; "" for the local socket's."""
    done = subprocess.run(["docker", "context", "inspect"], capture_output=True, text=True, check=False, timeout=20)
    try:
        address = str(json.loads(done.stdout)[0]["Endpoints"]["docker"]["Host"])
    except (ValueError, LookupError):
        return ""
    return "" if address.endswith("/docker.sock") and address.startswith("unix:///var/run") else address


def image(client: docker.DockerClient, reference: str, flags: str) -> Image:
    """Find an image; `invoke test` has pulled it if it is named by its registry."""
    try:
        return client.images.get(reference)
    except docker.errors.ImageNotFound:
        pass
    pytest.fail(f"there is no image {reference}; build it with `invoke build {flags}`", pytrace=False)
