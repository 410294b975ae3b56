"""Publish to a real registry on this machine: `invoke test --registry`.

The images are trials, built here under separate names; the commands are run as a user runs them.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest

from gesso.builder.image import build as image_build
from gesso.builder.image import buildx, contract_report, engine
from gesso.builder.registry import local_image
from gesso.settings import Project, Selection

from . import programs
from .server import PASSWORD, USER, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
NAME = "gesso-registry-test"
KEY_PASSWORD = "of-the-key"


@dataclass(frozen=True)
class Done:
    """The result of a command."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def expect(self, code: int = 0) -> Done:
        assert self.code == code, f"{self.code}, not {code}:\n{self.out}\n{self.err}"
        return self


@dataclass
class Person:
    """A user at a terminal: with their own home, cache, logins and key."""

    home: Path
    path: Path
    more: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if k in ("HOME", "LANG", "SSL_CERT_FILE", "DOCKER_HOST")}
        return inherited | {
            "PATH": f"{self.path}{os.pathsep}{os.environ['PATH']}", "GESSO_CACHE": str(self.home / "cache"),
            "DOCKER_CONFIG": str(self.home / "docker"), "COSIGN_PASSWORD": KEY_PASSWORD, **self.more,
        }  # fmt: skip

    @property
    def key(self) -> Path:
        return self.home / "cosign.key"

    @property
    def public(self) -> Path:
        return self.home / "cosign.pub"

    def invoke(self, *arguments: str) -> Done:
        return self.run(sys.executable, "-m", "invoke", *arguments)

    def run(self, *arguments: str) -> Done:
        done = subprocess.run(arguments, cwd=ROOT, env=self.env, capture_output=True, text=True, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "invoke", *arguments]
        return subprocess.Popen(
            argv, cwd=ROOT, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def log_in(self, host: str, user: str = USER, password: str = PASSWORD) -> None:
        """Log in like `docker login`."""
        from base64 import b64encode

        folder = self.home / "docker"
        folder.mkdir(exist_ok=True)
        auth = b64encode(f"{user}:{password}".encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))

    def publish(self, server: Server, arch: str, *more: str, image: str = "") -> list[str]:
        arguments = ["publish", "--arch", arch, "--trial", "--image", image or f"{NAME}:{arch}"]
        return [*arguments, "--registry", server.host, *more]


@pytest.fixture(scope="session")
def path() -> Path:
    return programs.folder("docker-registry", "cosign")


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    with local_image.engine(os.environ) as found:
        yield found


@pytest.fixture(scope="session")
def build(client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Return a function that builds a trial image from a checkout, under a name that is removed in the end."""
    made: list[str] = []

    def make(
        arch: str, tag: str = "", root: Path = ROOT, env: Mapping[str, str] = os.environ, anew: bool = False,
        overlay: Path | None = None,
    ) -> str:  # fmt: skip
        selection = _selection(arch, overlay, root)
        base = image_build.prepare(selection)[1].lock.base
        if base.bootstrap is not None:
            engine.bootstrap_base(base.bootstrap, print)
        context = tmp_path_factory.mktemp("contexts") / "context"
        image_build.write_context(selection, context, env, print)
        name = f"{NAME}:{tag or arch}"
        if anew:
            _run_every_step(context / "Dockerfile")
        buildx.build(context, [name], env=env, builder=None, on_event=lambda _: None)
        shutil.rmtree(context)
        made.append(name)
        return name

    yield make
    for name in made:
        with suppress(docker.errors.ImageNotFound):
            client.images.remove(name)


def _run_every_step(dockerfile: Path) -> None:
    """Make sure that nothing of it is in the builder's cache.

    A build without the cache would leave a second result of each step there: later builds could use either.
    """
    text = dockerfile.read_text()
    first, line, rest = text.partition(" AS system\n")
    assert line
    dockerfile.write_text(f"{first}{line}ENV GESSO_TEST_RUN={secrets.token_hex(8)}\n{rest}")


@pytest.fixture(scope="session")
def images(build: Callable[..., str]) -> dict[str, str]:
    """sdxl and flux, from the same checkout."""
    return {arch: build(arch) for arch in ("sdxl", "flux")}


@pytest.fixture(scope="session")
def changed(build: Callable[..., str], images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """sdxl with one changed workflow: somebody moved a node in the editor."""
    root = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "-c", "-o", "--exclude-standard"],
                            capture_output=True, check=True)  # fmt: skip
    for name in listed.stdout.decode().split("\0"):
        if name and os.path.lexists(ROOT / name):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name, follow_symlinks=False)
    path = root / "workflows/krita_gold_standard_sdxl.json"
    graph = json.loads(path.read_text())
    graph["nodes"][0]["pos"] = [7, 7]
    path.write_text(json.dumps(graph))
    return build("sdxl", "sdxl-changed", root)


@pytest.fixture
def person(tmp_path: Path, path: Path, images: dict[str, str]) -> Person:
    """A user whose images were tested: with the reports of `invoke test`."""
    found = Person(tmp_path / "home", path)
    found.home.mkdir()
    subprocess.run(
        [str(path / "cosign"), "generate-key-pair"], cwd=found.home, env=found.env, capture_output=True, check=True
    )
    for arch, name in images.items():
        vouch(found, arch, name)
    return found


def _selection(arch: str, overlay: Path | None, root: Path = ROOT) -> Selection:
    """A trial; with an overlay the real image's equivalent."""
    return Selection(Project(root), arch, (overlay,) if overlay else (), trial=overlay is None)


def vouch(person: Person, arch: str, name: str, overlay: Path | None = None) -> None:
    """Write a green report about an image, as `invoke test` does."""
    _, locked = image_build.prepare(_selection(arch, overlay))
    with local_image.engine(os.environ) as found:
        image = local_image.read(found, name)
    report = contract_report.ContractReport(
        image=image.image_id, arch=arch, trial=overlay is None, lock=locked.lock.sha256, whole=True, passed=1,
        seconds=1, contract=contract_report.contract_of(ROOT / "tests/image"), at=contract_report.now(),
    )  # fmt: skip
    contract_report.write(person.env, report)


@pytest.fixture
def server(path: Path, tmp_path: Path) -> Iterator[Server]:
    """A plain registry: no TLS, no login."""
    found = Server(path / "docker-registry", tmp_path / "registry")
    found.start()
    yield found
    found.remove()


@pytest.fixture
def guarded(path: Path, tmp_path: Path) -> Iterator[Server]:
    """A registry with TLS by its own CA, and a login."""
    found = Server(path / "docker-registry", tmp_path / "registry", tls=True)
    found.start()
    yield found
    found.remove()
