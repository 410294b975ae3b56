"""The container engine: is one there, does it have what a build needs; and a base image made without any registry."""

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

_ANSWER_WITHIN = 6.0  # seconds
_BUILDX_WITHIN = 3.0  # seconds; a program on this machine, no network
_MIN_BUILDX = (0, 13)  # the first with `--progress rawjson`
_GB = 1_000_000_000


@dataclass(frozen=True)
class Engine:
    """An engine that answered; `folder` is where it keeps images, if that is on this machine."""

    version: str
    buildx: str
    folder: Path | None

    @property
    def free(self) -> int | None:
        """Bytes free for images, where that can be seen from here."""
        return shutil.disk_usage(self.folder).free if self.folder is not None else None


def find() -> Engine:
    """Find the engine that the docker command is set to: DOCKER_HOST, a context, or the local socket.

    Raises BuildError that names the next step, within 10 seconds.
    """
    info = _info()
    buildx = _buildx()
    here = info.get("Name") == platform.node()  # an engine elsewhere has a disk of its own
    root = Path(str(info.get("DockerRootDir") or "/nowhere") if here else "/nowhere")
    return Engine(str(info.get("ServerVersion", "")), buildx, root if root.is_dir() else None)


def _info() -> dict[str, Any]:
    try:
        result = proc.run(["docker", "info", "--format", "{{json .}}"], timeout=_ANSWER_WITHIN)
    except proc.MissingProgramError:
        raise BuildError("there is no docker command on this machine", HOW_TO_GET_ONE) from None
    except proc.TimedOutError:
        raise BuildError(f"the Docker engine does not answer within {_ANSWER_WITHIN:g} s", HOW_TO_START) from None
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
        result = proc.run(["docker", "buildx", "version"], timeout=_BUILDX_WITHIN)
    except proc.TimedOutError as error:
        raise BuildError(error.message, "see why `docker buildx version` hangs, then run this again") from None
    match = re.search(r"v?(\d+)\.(\d+)[\w.+-]*", result.stdout)
    if not result.ok or match is None:
        raise BuildError("docker has no buildx, which builds the image", "install Debian's docker-buildx, Ubuntu's "
                         "docker-buildx or Docker's docker-buildx-plugin, then run this again")  # fmt: skip
    if (int(match[1]), int(match[2])) < _MIN_BUILDX:
        raise BuildError(f"docker buildx is {match[0]}; 0.13 or newer is needed", "update docker-buildx")
    return match[0]


HOW_TO_GET_ONE = (
    "as root on Debian or Ubuntu `python3 build.py` brings an engine up; elsewhere install Docker Desktop, "
    "OrbStack or Docker Engine, start it, and run this again"
)
HOW_TO_START = (
    "start it (`systemctl start docker`, or open Docker Desktop), or set DOCKER_HOST; as root on Debian or "
    "Ubuntu `python3 build.py` brings one up"
)


def require_space(engine: Engine, needed: int) -> None:
    """Refuse a build that would fill the disk.

    Raises BuildError.
    """
    free = engine.free
    if free is not None and free < needed:
        raise BuildError(
            f"{engine.folder}: {free / _GB:.1f} GB free, the build needs about {needed / _GB:.0f} GB",
            "free some with `docker system prune`, or move Docker's data to a larger disk",
        )


def bootstrap_base(suite: str, say: Callable[[str], None]) -> str:
    """Make a Debian base image from Debian's own packages, or find the one made before, and give its name.

    Raises BuildError where this machine cannot make one.
    """
    name = f"gesso-base:{suite}"
    if proc.run(["docker", "image", "inspect", name], timeout=30).ok:
        return name
    mirror = debian_mirror()
    say(f"base: bootstrapping Debian {suite} from this machine's own mirror (once, about half a minute)")
    if mirror is None or shutil.which("mmdebstrap") is None:
        raise BuildError(
            f"a {suite} base can be bootstrapped only on Debian with mmdebstrap",
            "as root on Debian: `apt-get install mmdebstrap`; elsewhere leave `bootstrap` out and use `image`",
        )
    slim = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
    excludes = [f"--dpkgopt=path-exclude={path}" for path in slim]
    # mmdebstrap copies these from this machine: its name and its resolver are nobody's business in an image.
    excludes.append('--customize-hook=rm -f "$1/etc/hostname" "$1/etc/resolv.conf"')
    script = 'mmdebstrap --quiet --variant=minbase --include=ca-certificates "$@" | docker import - "$0"'
    words = ["bash", "-o", "pipefail", "-c", script, name, *excludes, suite, "-", mirror]
    result = proc.run(words, timeout=900)
    if not result.ok:
        full = "no space left" in result.output.lower()
        remedy = "free some disk space" if full else "check that this machine's Debian mirror answers"
        raise BuildError(f"mmdebstrap {suite}: {result.tail()}", f"{remedy}, then run this again")
    return name


def debian_mirror() -> str | None:
    """Give the Debian mirror that this machine uses itself."""
    if shutil.which("apt-get") is None:
        return None
    for attempt in range(2):
        result = proc.run(["apt-get", "indextargets", "--format", "$(REPO_URI)"], timeout=60)
        uris = [line for line in result.stdout.splitlines() if line.endswith("/debian/")]
        if uris:
            return uris[0]
        if attempt == 0:  # apt knows its mirrors' addresses only once it has their lists
            proc.run(["apt-get", "update", "-qq"], timeout=300)
    return None
