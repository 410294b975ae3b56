"""A template as Vast.ai's API accepts it: every field, and no other."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from gesso.manifest.vast import ENV_LIMIT, NAME_LIMIT, ONSTART_LIMIT, PORTS_LIMIT

IMAGE = r"^[a-z0-9][a-z0-9.:/_-]*@sha256:[0-9a-f]{64}$"
_PORT = re.compile(r"\d{1,5}:\d{1,5}(/udp)?")
_VARIABLE = re.compile(r"[A-Za-z_]\w*=.*", re.ASCII)
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,62})", re.ASCII)


def parse_flags(env: str) -> list[tuple[str, str]]:
    """Parse a string of Docker flags: (`-e`, `K=V`), (`-p`, `H:C`), (`-h`, `host`).

    Raises ValueError for anything else: Vast.ai ignores it, or worse.
    """
    tokens = shlex.split(env)
    shapes = {"-e": _VARIABLE, "-p": _PORT, "-h": _HOST}
    pairs = list(zip(tokens[::2], tokens[1::2], strict=False))
    if len(tokens) % 2 or any(flag not in shapes or not shapes[flag].fullmatch(value) for flag, value in pairs):
        raise ValueError("must be Docker flags that Vast.ai supports: -e NAME=VALUE, -p HOST:CONTAINER, -h NAME")
    if sum(flag == "-p" for flag, _ in pairs) >= PORTS_LIMIT:
        raise ValueError(f"has {PORTS_LIMIT} ports or more")
    return pairs


def _flags(env: str) -> str:
    parse_flags(env)
    return env


class Template(BaseModel):
    """The body of the request that creates a template."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(min_length=3, max_length=NAME_LIMIT)]
    image: Annotated[str, StringConstraints(pattern=IMAGE, max_length=1024)]
    tag: Literal[""] = ""  # the image is by digest; Vast.ai would append a tag to it
    href: str = ""
    repo: str = ""
    env: Annotated[str, StringConstraints(max_length=ENV_LIMIT), AfterValidator(_flags)]
    onstart: Annotated[str, StringConstraints(max_length=ONSTART_LIMIT)]
    args_str: str = ""
    runtype: Literal["ssh", "jupyter", "args"]
    use_ssh: bool
    ssh_direct: bool
    jup_direct: bool
    use_jupyter_lab: bool
    jupyter_dir: Annotated[str, StringConstraints(max_length=256)]
    docker_login_repo: Literal[""] = ""
    docker_login_user: Literal[""] = ""
    docker_login_pass: Literal[""] = ""
    extra_filters: dict[str, dict[str, Any]]
    recommended_disk_space: int = Field(gt=0)
    readme: str
    readme_visible: bool
    desc: str
    private: bool

    def body(self) -> dict[str, Any]:
        """Return the request body."""
        return self.model_dump()

    @property
    def sha256(self) -> str:
        """The SHA-256 of the whole content."""
        text = json.dumps(self.body(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def marker(arch: str) -> str:
    """Return the mark at the end of the description of gesso's templates for an architecture."""
    return f"[gesso:{arch}]"
