"""The contract of a built image: `invoke test --arch A [--trial] [--image REF]`.

An image's expected content is read from the manifest and the lock, never duplicated here.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest
import requests
import testinfra
from filelock import FileLock
from playwright.sync_api import sync_playwright

from gesso.builder.image.build import prepare
from gesso.runtime.services.supervisord import GROUP, GROUPED

from . import engine, options
from .distribution import pytest_collection_modifyitems, pytest_xdist_make_scheduler  # noqa: F401 - hooks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docker.models.containers import Container
    from docker.models.images import Image
    from docker.models.volumes import Volume
    from playwright.sync_api import Browser, Page

    from gesso.builder.lock.lock_files import Locked
    from gesso.manifest.schema import Manifest
    from gesso.settings import Selection

START_WITHIN = 300  # seconds; a limit for a hanging instance, not a measurement


pytest_addoption = options.add


@pytest.fixture(scope="session")
def selection(pytestconfig: pytest.Config) -> Selection:
    return options.selection_of(pytestconfig)


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
def where() -> Iterator[engine.Engine]:
    found = engine.connect()
    with closing(found.client):
        yield found


@pytest.fixture(scope="session")
def client(where: engine.Engine) -> docker.DockerClient:
    return where.client


@pytest.fixture(scope="session")
def image(client: docker.DockerClient, selection: Selection, pytestconfig: pytest.Config) -> Image:
    return engine.image(client, options.image_of(pytestconfig, selection), selection.flags)


@dataclass
class Instance:
    """A running container of the image, and the ways to access it."""

    container: Container
    token: str
    with_models: bool = True  # a trial serves them to itself; the real ones are out of reach of a test
    address: str = "127.0.0.1"  # of the engine's machine

    @property
    def host(self) -> Any:
        return testinfra.get_host(f"docker://{self.container.id}")

    @property
    def url(self) -> str:
        self.container.reload()
        ports: dict[str, Any] = self.container.ports
        return f"http://{self.address}:{ports['8188/tcp'][0]['HostPort']}"

    def run(self, command: str) -> Any:
        """Run a command with a limit inside the container: an exec's output has no timeout of its own."""
        return self.host.run("timeout 120 sh -c %s", command)

    def put(self, path: str, body: bytes, mode: int = 0o644) -> None:
        """Write a file into the container."""
        folder, _, name = path.rpartition("/")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(body), mode
            archive.addfile(entry, io.BytesIO(body))
        assert self.container.put_archive(folder, packed.getvalue())

    def json(self, path: str) -> Any:
        return requests.get(f"{self.url}/{self.token}{path}", timeout=60).json()

    def status(self) -> dict[str, Any]:
        """Return the agent's status; {} if it does not respond."""
        text = self.run("gesso status --json").stdout
        found: dict[str, Any] = json.loads(text) if text.startswith("{") else {}
        return found

    def wait_until_healthy(self) -> None:
        """Wait until Krita could work; without models, until only they are missing."""
        if not self.with_models:
            self.wait_for(lambda s: s["comfyui"]["up"] and s["comfyui"]["published"], "ComfyUI with its workflows")
            return
        deadline = time.monotonic() + START_WITHIN
        while True:
            self.container.reload()
            if self.container.status == "exited":
                pytest.fail(f"the container ended:\n{self.logs()}", pytrace=False)
            answer: Any = self.container.exec_run(["gesso", "health"])
            if answer.exit_code == 0:
                return
            if time.monotonic() > deadline:
                text = f"{answer.output.decode()}\n{self.logs()}"
                pytest.fail(f"not healthy after {START_WITHIN} s: {text}", pytrace=False)
            time.sleep(0.3)

    def wait_for(
        self, condition: Callable[[dict[str, Any]], bool], what: str, within: float = START_WITHIN
    ) -> dict[str, Any]:
        """Wait until the agent's status satisfies a condition, and return it."""
        deadline = time.monotonic() + within
        while True:
            found = self.status()
            if found and condition(found):
                return found
            if time.monotonic() > deadline:
                pytest.fail(f"no {what} after {within} s: {json.dumps(found)[:3000]}\n{self.logs()}", pytrace=False)
            time.sleep(0.2)

    def wait_for_state(self, *states: str, within: float = START_WITHIN) -> dict[str, Any]:
        """Wait for one of these states."""
        return self.wait_for(lambda status: status["state"] in states, " or ".join(states), within)

    def wait_until_complete(self) -> None:
        """Wait until Krita could work and every model is present, not only the required: then removals are complete."""
        self.wait_until_healthy()
        if self.with_models:
            self.wait_for_state("ready")

    def supervisor(self, command: str) -> str:
        """Run a supervisorctl command, such as `stop gate`."""
        words = [f"{GROUP}:{word}" if word in GROUPED else word for word in command.split()]
        control = "/opt/gesso/venv/bin/supervisorctl -c /opt/gesso/etc/supervisord.conf"
        return str(self.run(f"{control} {' '.join(words)}").stdout)

    def mirror(self, path: str, behaviour: str, **more: Any) -> None:
        """Set a behaviour of the trial's mirror; "healthy" ends it."""
        body = json.dumps({"path": path, "behaviour": behaviour, **more})
        code = "import sys, urllib.request as r; r.urlopen(r.Request(sys.argv[1], sys.argv[2].encode(), method='POST'))"
        command = ["/opt/gesso/venv/bin/python", "-c", code, "http://127.0.0.1:18190/_mirror/behave", body]
        answer: Any = self.container.exec_run(command)
        assert answer.exit_code == 0, answer.output

    def logs(self) -> str:
        logs: Any = self.container.logs(tail=80)
        return str(logs.decode("utf-8", "replace"))


class Instances:
    """Starts containers and removes those that it started."""

    def __init__(self, where: engine.Engine, *, with_models: bool) -> None:
        self._where = where
        self._client = where.client
        self._with_models = with_models
        self._volumes: list[Volume] = []
        self._mine: list[Container] = []

    def start(self, image: Image | str, env: dict[str, str] | None = None, **options: Any) -> Instance:
        token = (env or {}).get("GESSO_TOKEN") or secrets.token_urlsafe(24)
        if "network_mode" not in options:
            options.setdefault("ports", {"8188/tcp": (self._where.bind, None)})
        environment = {"GESSO_TOKEN": token, **(env or {})}
        container = self._client.containers.run(image, detach=True, environment=environment, **options)
        self._mine.append(container)
        return Instance(container, token, self._with_models, self._where.host)

    def start_idle(self, image: Image | str, **options: Any) -> Instance:
        """Start a trial in which only its mirror runs, so that its behaviour can be set before everything else starts.

        The test runs `entrypoint.sh`.
        """
        conf, python = "/opt/gesso/mirror/supervisor.conf", "/opt/gesso/venv/bin/python"
        mine = self.start(image, entrypoint=["sleep", "infinity"], **options)
        mine.run(
            f"sed -i s/autostart=true/autostart=false/ {conf};"
            f" grep -q autostart {conf} || echo autostart=false >> {conf}"
        )
        mirror = f"{python} /opt/gesso/mirror/mirror --root /opt/gesso/mirror/files"
        mine.container.exec_run(["sh", "-c", mirror], detach=True)
        mine.run("for i in $(seq 100); do grep -q :470E /proc/net/tcp && break; sleep 0.1; done")
        return mine

    def volume(self, size: int | None = None, mode: str = "") -> str:
        """Create a volume and return its name; with a `size` (bytes) or a `mode` (octal), one in memory."""
        options = ",".join([*[f"size={size}"] * bool(size), *[f"mode={mode}"] * bool(mode)])
        in_memory = {"type": "tmpfs", "device": "tmpfs", "o": options} if options else None
        volume = self._client.volumes.create(driver_opts=in_memory)
        self._volumes.append(volume)
        return str(volume.name)

    def forget(self, removed: Iterable[Instance]) -> None:
        gone = {each.container.id for each in removed}
        self._mine = [container for container in self._mine if container.id not in gone]

    def remove(self) -> None:
        for container in self._mine:
            with suppress(docker.errors.NotFound):
                container.remove(force=True, v=True)
        for volume in self._volumes:
            volume.remove(force=True)


@pytest.fixture(scope="session")
def instances(where: engine.Engine, manifest: Manifest) -> Iterator[Instances]:
    mine = Instances(where, with_models=manifest.trial)
    yield mine
    mine.remove()


@pytest.fixture(scope="session")
def with_models(manifest: Manifest) -> None:
    """For tests that need models: a trial serves them to itself."""
    if not manifest.trial:
        pytest.skip("the real models are out of reach of a test: this was not run")


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


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with FileLock(Path(tempfile.gettempdir()) / "gesso-chromium.lock"):  # workers arrive here at the same time
        path = _chromium()
        if path is None and os.geteuid() == 0 and shutil.which("apt-get"):
            command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"]
            env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(command, env=env, capture_output=True, check=False)
            path = _chromium()
    if path is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium): the page was not run in a browser")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


Picture = Callable[["Page", str], None]


@pytest.fixture(scope="session")
def picture() -> Picture:
    """Save a screenshot of a page by a name, if `GESSO_SCREENSHOTS` names a folder."""

    def save(page: Page, name: str) -> None:
        if folder := os.environ.get("GESSO_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/{name}.png")

    return save


def pytest_report_header() -> str:
    return f"engine: {os.environ.get('DOCKER_HOST', 'local')}"
