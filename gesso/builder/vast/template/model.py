"""A template as Vast.ai's API takes it: every field that it has, and no other."""

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


def flags_of(env: str) -> list[tuple[str, str]]:
    """Take a string of Docker flags apart: (`-e`, `K=V`), (`-p`, `H:C`), (`-h`, `host`).

    Raises ValueError for anything else: Vast.ai ignores it, or worse.
    """
    words = shlex.split(env)
    shapes = {"-e": _VARIABLE, "-p": _PORT, "-h": _HOST}
    pairs = list(zip(words[::2], words[1::2], strict=False))
    if len(words) % 2 or any(flag not in shapes or not shapes[flag].fullmatch(value) for flag, value in pairs):
        raise ValueError("must be Docker flags of Vast.ai's: -e NAME=VALUE, -p HOST:CONTAINER, -h NAME")
    if sum(flag == "-p" for flag, _ in pairs) >= PORTS_LIMIT:
        raise ValueError(f"has {PORTS_LIMIT} ports or more")
    return pairs


def _flags(env: str) -> str:
    flags_of(env)
    return env


class Template(BaseModel):
    """The body of a request that makes a template."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(min_length=3, max_length=NAME_LIMIT)]
    image: Annotated[str, StringConstraints(pattern=IMAGE, max_length=1024)]
    tag: Literal[""] = ""  # the digest says all; a tag beside it would be appended to the image
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
        """Give what is sent."""
        return self.model_dump()

    @property
    def sha256(self) -> str:
        """The digest of the whole content."""
        text = json.dumps(self.body(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def marker(arch: str) -> str:
    """Give what ends the description of every template that gesso made for an architecture."""
    return f"[gesso:{arch}]"
