"""The engine: a missing requirement is reported in two lines, within seconds, before anything else."""

from __future__ import annotations

import json
import os
import platform
import time
from typing import TYPE_CHECKING

import pytest

from gesso.builder.image import engine
from gesso.builder.image.engine import Engine
from gesso.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _docker(
    info: str = '{"ServerVersion": "26.1"}', buildx: str = "echo github.com/docker/buildx v0.14.0 171fcbe"
) -> str:
    return f"""case "$1" in\ninfo) cat <<'E'\n{info}\nE\n;;\nbuildx) {buildx} ;;\nesac"""


def _error() -> BuildError:
    with pytest.raises(BuildError) as raised:
        engine.find()
    error = raised.value
    assert error.exit_code == 6
    assert len(str(error).splitlines()) == 2
    assert str(error).splitlines()[1] == f"  next: {error.next_step}"
    return error


def test_a_running_engine(program: Callable[[str, str], Path], tmp_path: Path) -> None:
    program(
        "docker",
        _docker(json.dumps({"ServerVersion": "26.1", "DockerRootDir": str(tmp_path), "Name": platform.node()})),
    )
    found = engine.find()
    assert (found.version, found.buildx, found.folder) == ("26.1", "v0.14.0", tmp_path)
    assert found.free is not None
    assert found.free > 0


@pytest.mark.parametrize("info", ['{"ServerVersion": "26"}', '{"ServerVersion": "26", "DockerRootDir": "/no/such/x"}'])
def test_an_unknown_disk(program: Callable[[str, str], Path], info: str) -> None:
    program("docker", _docker(info))
    found = engine.find()
    assert found.folder is None
    assert found.free is None
    engine.require_space(found, 10**18)  # unknown free space is no error


def test_no_docker_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    error = _error()
    assert error.message == "no docker command on this machine"
    assert "python3 build.py" in error.next_step
    assert "Docker Desktop" in error.next_step


def test_an_engine_that_does_not_respond(program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_INFO_TIMEOUT", 0.2)
    program("docker", "exec sleep 30")
    started = time.monotonic()
    error = _error()
    assert time.monotonic() - started < 5
    assert error.message == "the Docker engine does not answer within 0.2 s"
    assert "systemctl start docker" in error.next_step


@pytest.mark.parametrize(
    "script",
    [
        """echo '{"ServerErrors": ["Cannot connect to the Docker daemon at unix:///x"]}'; exit 1""",
        """echo '{"ServerErrors": ["Cannot connect to the Docker daemon at unix:///x"]}'""",
        "echo 'Cannot connect to the Docker daemon at unix:///x' >&2; exit 1",
    ],
)
def test_a_daemon_that_is_down(program: Callable[[str, str], Path], script: str) -> None:
    program("docker", script)
    error = _error()
    assert error.message == "no Docker engine answers: Cannot connect to the Docker daemon at unix:///x"
    assert "DOCKER_HOST" in error.next_step


@pytest.mark.parametrize("script", ["echo \"docker: 'buildx' is not a docker command\" >&2; exit 1", "echo what"])
def test_no_buildx(program: Callable[[str, str], Path], script: str) -> None:
    program("docker", _docker(buildx=script))
    error = _error()
    assert "no buildx" in error.message
    assert "docker-buildx-plugin" in error.next_step


@pytest.mark.parametrize("version", ["v0.12.1", "0.9.0+ds1", "v0.2"])
def test_a_buildx_that_is_too_old(program: Callable[[str, str], Path], version: str) -> None:
    program("docker", _docker(buildx=f"echo github.com/docker/buildx {version} 3e6"))
    assert _error().message == f"docker buildx is {version}; 0.13 or newer is needed"


@pytest.mark.parametrize("version", ["v0.13.0", "0.13.1+ds1", "v0.30.0-desktop.1", "v1.0.0"])
def test_a_buildx_that_is_new_enough(program: Callable[[str, str], Path], version: str) -> None:
    program("docker", _docker(buildx=f"echo github.com/docker/buildx {version} 3e6"))
    assert engine.find().buildx == version


def test_a_disk_that_is_too_full(tmp_path: Path) -> None:
    found = Engine("26", "0.14", tmp_path)
    engine.require_space(found, 1)
    with pytest.raises(BuildError, match=r"GB free, the build needs about 1000000000 GB") as raised:
        engine.require_space(found, 10**18)
    assert raised.value.exit_code == 6
    assert "docker system prune" in raised.value.next_step
    assert str(tmp_path) in raised.value.message


# --- a base without a registry


def test_an_existing_base(program: Callable[[str, str], Path]) -> None:
    log = program("docker", 'echo "$@" >>"$LOG/calls"')
    lines: list[str] = []
    assert engine.bootstrap_base("trixie", lines.append) == "gesso-base:trixie"
    assert (log / "calls").read_text() == "image inspect gesso-base:trixie\n"
    assert lines == []


def test_a_base_is_bootstrapped_from_the_machines_own_mirror(program: Callable[[str, str], Path]) -> None:
    log = program("docker", '[ "$1" != image ] || exit 1; cat >"$LOG/tar"; echo "$@" >"$LOG/import"')
    program("apt-get", "echo http://mirror.test/ubuntu-like/; echo http://mirror.test/debian/")
    program("mmdebstrap", 'echo "$@" >"$LOG/mmdebstrap"; echo a-tar')
    lines: list[str] = []
    assert engine.bootstrap_base("trixie", lines.append) == "gesso-base:trixie"
    assert (log / "tar").read_text() == "a-tar\n"
    assert (log / "import").read_text() == "import - gesso-base:trixie\n"
    assert (log / "mmdebstrap").read_text().endswith("trixie - http://mirror.test/debian/\n")
    assert len(lines) == 1


def test_a_bootstrap_that_fails_imports_nothing(program: Callable[[str, str], Path]) -> None:
    program("docker", '[ "$1" != image ] || exit 1; cat >/dev/null')
    program("apt-get", "echo http://mirror.test/debian/")
    program("mmdebstrap", "echo 'E: no release file' >&2; exit 9")
    with pytest.raises(BuildError, match="mmdebstrap trixie: E: no release file") as raised:
        engine.bootstrap_base("trixie", lambda _: None)
    assert raised.value.next_step


def test_a_machine_that_cannot_make_a_base(
    program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program("docker", "exit 1")
    monkeypatch.setenv("PATH", os.environ["PATH"].split(os.pathsep)[0])
    with pytest.raises(BuildError, match="only on Debian with mmdebstrap") as raised:
        engine.bootstrap_base("trixie", lambda _: None)
    assert "apt-get install mmdebstrap" in raised.value.next_step
    assert engine.debian_mirror() is None


def test_the_disk_of_a_remote_engine_is_unknown(program: Callable[[str, str], Path], tmp_path: Path) -> None:
    info = {"ServerVersion": "26.1", "DockerRootDir": str(tmp_path), "Name": "another-machine"}
    program("docker", _docker(json.dumps(info)))
    assert engine.find().free is None
