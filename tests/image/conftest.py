"""The contract of a built image: `invoke test --arch A [--trial] [--image REF]`.

What an image must hold is read from the manifest and the lock, never written here a second time.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest
import requests
import testinfra

from gesso.image.build import prepare
from gesso.image.plan import tags_of
from gesso.settings import Project, Selection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docker.models.containers import Container
    from docker.models.images import Image

    from gesso.image.locking import Locked
    from gesso.manifest.schema import Manifest

ROOT = Path(__file__).resolve().parents[2]
START_WITHIN = 300  # seconds; a guard against hanging for ever, not a measurement


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gesso")
    group.addoption("--gesso-arch", default="sdxl")
    group.addoption("--gesso-trial", action="store_true")
    group.addoption("--gesso-overlay", action="append", default=[])
    group.addoption("--gesso-image", default=None)


@pytest.fixture(scope="session")
def selection(pytestconfig: pytest.Config) -> Selection:
    overlays = tuple(Path(p) for p in pytestconfig.getoption("--gesso-overlay"))
    arch, trial = pytestconfig.getoption("--gesso-arch"), pytestconfig.getoption("--gesso-trial")
    return Selection(Project(ROOT), arch, overlays, trial)


@pytest.fixture(scope="session")
def expected(selection: Selection) -> tuple[Manifest, Locked]:
    return prepare(selection)


@pytest.fixture(scope="session")
def manifest(expected: tuple[Manifest, Locked]) -> Manifest:
    return expected[0]


@pytest.fixture(scope="session")
def locked(expected: tuple[Manifest, Locked]) -> Locked:
    return expected[1]


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    with closing(docker.from_env()) as found:
        yield found


@pytest.fixture(scope="session")
def image(client: docker.DockerClient, selection: Selection, pytestconfig: pytest.Config) -> Image:
    reference = pytestconfig.getoption("--gesso-image") or tags_of(selection.arch, trial=selection.trial)[0]
    try:
        return client.images.get(reference)
    except docker.errors.ImageNotFound:
        pytest.fail(f"there is no image {reference}; build it with `invoke build {selection.flags}`", pytrace=False)


@dataclass
class Instance:
    """A running container of the image, and the doors to it."""

    container: Container
    token: str

    @property
    def host(self) -> Any:
        return testinfra.get_host(f"docker://{self.container.id}")

    @property
    def url(self) -> str:
        self.container.reload()
        ports: dict[str, Any] = self.container.ports
        return f"http://127.0.0.1:{ports['8188/tcp'][0]['HostPort']}"

    def run(self, command: str) -> Any:
        """Run a command with a limit inside the container: an exec's output has no timeout of its own."""
        return self.host.run("timeout 120 sh -c %s", command)

    def json(self, path: str) -> Any:
        return requests.get(f"{self.url}/{self.token}{path}", timeout=60).json()

    def wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_WITHIN
        while True:
            self.container.reload()
            if self.container.status == "exited":
                pytest.fail(f"the container ended:\n{self.logs()}", pytrace=False)
            answer: Any = self.container.exec_run(["gesso", "health"])
            if answer.exit_code == 0:
                return
            if time.monotonic() > deadline:
                said = f"{answer.output.decode()}\n{self.logs()}"
                pytest.fail(f"not healthy after {START_WITHIN} s: {said}", pytrace=False)
            time.sleep(0.3)

    def logs(self) -> str:
        logs: Any = self.container.logs(tail=80)
        return str(logs.decode("utf-8", "replace"))


class Instances:
    """Starts containers and removes those that it started."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client
        self._mine: list[Container] = []

    def start(self, image: Image | str, env: dict[str, str] | None = None, **options: Any) -> Instance:
        token = (env or {}).get("GESSO_TOKEN") or secrets.token_urlsafe(24)
        if "network_mode" not in options:
            options["ports"] = {"8188/tcp": ("127.0.0.1", None)}
        environment = {"GESSO_TOKEN": token, **(env or {})}
        container = self._client.containers.run(image, detach=True, environment=environment, **options)
        self._mine.append(container)
        return Instance(container, token)

    def forget(self, removed: Iterable[Instance]) -> None:
        gone = {each.container.id for each in removed}
        self._mine = [container for container in self._mine if container.id not in gone]

    def remove(self) -> None:
        for container in self._mine:
            container.remove(force=True, v=True)


@pytest.fixture(scope="session")
def instances(client: docker.DockerClient) -> Iterator[Instances]:
    mine = Instances(client)
    yield mine
    mine.remove()


@pytest.fixture(scope="session")
def instance(instances: Instances, image: Image) -> Instance:
    started = instances.start(image)
    started.wait_until_healthy()
    return started


@pytest.fixture(scope="session")
def record(instance: Instance) -> dict[str, Any]:
    text = instance.run("cat /opt/gesso/build.json").stdout
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def pytest_report_header() -> str:
    return f"engine: {os.environ.get('DOCKER_HOST', 'local')}"
