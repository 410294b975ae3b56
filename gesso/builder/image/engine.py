"""The container engine: find it, check its requirements, and bootstrap a base image without a registry."""

from __future__ import annotations

import json
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso import proc
from gesso.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable

_INFO_TIMEOUT = 6.0  # seconds
_BUILDX_TIMEOUT = 3.0  # seconds; no network
_MIN_BUILDX = (0, 13)  # the first with `--progress rawjson`
_GB = 1_000_000_000


@dataclass(frozen=True)
class Engine:
    """A running engine; `folder`: its data root, None where that is not on this machine."""

    version: str
    buildx: str
    folder: Path | None

    @property
    def free(self) -> int | None:
        """Free bytes for images; None where unknown."""
        return shutil.disk_usage(self.folder).free if self.folder is not None else None


def find() -> Engine:
    """Find the engine that the docker command uses: DOCKER_HOST, a context, or the local socket.

    Raises BuildError with the next step, within 10 seconds.
    """
    info = _info()
    buildx = _buildx()
    is_local = info.get("Name") == platform.node()  # a remote engine has its own disk
    root = Path(str(info.get("DockerRootDir") or "/nowhere") if is_local else "/nowhere")
    return Engine(str(info.get("ServerVersion", "")), buildx, root if root.is_dir() else None)


def _info() -> dict[str, Any]:
    try:
        result = proc.run(["docker", "info", "--format", "{{json .}}"], timeout=_INFO_TIMEOUT)
    except proc.MissingProgramError:
        raise BuildError("no docker command on this machine", HOW_TO_INSTALL) from None
    except proc.TimedOutError:
        raise BuildError(f"the Docker engine does not answer within {_INFO_TIMEOUT:g} s", HOW_TO_START) from None
    try:
        info: dict[str, Any] = json.loads(result.stdout)
    except ValueError:
        info = {}
    if not result.ok or not info.get("ServerVersion"):
        errors = info.get("ServerErrors") or [result.tail(1)]
        raise BuildError(f"no Docker engine answers: {' '.join(map(str, errors))[:300]}", HOW_TO_START)
    return info


def _buildx() -> str:
    try:
        result = proc.run(["docker", "buildx", "version"], timeout=_BUILDX_TIMEOUT)
    except proc.TimedOutError as error:
        raise BuildError(error.message, "find out why `docker buildx version` hangs, then retry") from None
    match = re.search(r"v?(\d+)\.(\d+)[\w.+-]*", result.stdout)
    if not result.ok or match is None:
        raise BuildError("docker has no buildx, which builds the image", "install Debian's docker-buildx, Ubuntu's "
                         "docker-buildx or Docker's docker-buildx-plugin, then retry")  # fmt: skip
    if (int(match[1]), int(match[2])) < _MIN_BUILDX:
        raise BuildError(f"docker buildx is {match[0]}; 0.13 or newer is needed", "update docker-buildx")
    return match[0]


HOW_TO_INSTALL = (
    "as root on Debian or Ubuntu `python3 build.py` brings an engine up; elsewhere install Docker Desktop, "
    "OrbStack or Docker Engine, start it, and retry"
)
HOW_TO_START = (
    "start it (`systemctl start docker`, or open Docker Desktop), or set DOCKER_HOST; as root on Debian or "
    "Ubuntu `python3 build.py` brings one up"
)


def require_space(engine: Engine, needed: int) -> None:
    """Raise BuildError where a build would fill the disk."""
    free = engine.free
    if free is not None and free < needed:
        raise BuildError(
            f"{engine.folder}: {free / _GB:.1f} GB free, the build needs about {needed / _GB:.0f} GB",
            "free disk space with `docker system prune`, or move Docker's data to a larger disk",
        )


def bootstrap_base(suite: str, on_progress: Callable[[str], None]) -> str:
    """Return the name of a Debian base image, made from Debian's packages where it does not exist.

    Raises BuildError where this machine cannot make one.
    """
    name = f"gesso-base:{suite}"
    if proc.run(["docker", "image", "inspect", name], timeout=30).ok:
        return name
    mirror = debian_mirror()
    on_progress(f"base: bootstrapping Debian {suite} from this machine's mirror (once, about 30 seconds)")
    if mirror is None or shutil.which("mmdebstrap") is None:
        raise BuildError(
            f"a {suite} base can be bootstrapped only on Debian with mmdebstrap",
            "as root on Debian: `apt-get install mmdebstrap`; elsewhere leave `bootstrap` out and use `image`",
        )
    slim = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
    excludes = [f"--dpkgopt=path-exclude={path}" for path in slim]
    # mmdebstrap copies these from this machine: its name and resolver must not be in an image.
    excludes.append('--customize-hook=rm -f "$1/etc/hostname" "$1/etc/resolv.conf"')
    script = 'mmdebstrap --quiet --variant=minbase --include=ca-certificates "$@" | docker import - "$0"'
    command = ["bash", "-o", "pipefail", "-c", script, name, *excludes, suite, "-", mirror]
    result = proc.run(command, timeout=900)
    if not result.ok:
        full = "no space left" in result.output.lower()
        remedy = "free disk space" if full else "check that this machine's Debian mirror responds"
        raise BuildError(f"mmdebstrap {suite}: {result.tail()}", f"{remedy}, then retry")
    return name


def debian_mirror() -> str | None:
    """Return the URL of this machine's own Debian mirror, None where it is unknown."""
    if shutil.which("apt-get") is None:
        return None
    for attempt in range(2):
        result = proc.run(["apt-get", "indextargets", "--format", "$(REPO_URI)"], timeout=60)
        uris = [line for line in result.stdout.splitlines() if line.endswith("/debian/")]
        if uris:
            return uris[0]
        if attempt == 0:  # apt lists its mirrors only after an update
            proc.run(["apt-get", "update", "-qq"], timeout=300)
    return None
