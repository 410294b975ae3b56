"""The `vast:` section of a manifest: the settings of the Vast.ai template that cannot be derived from other keys.

Others may read a template, so it must not contain secrets. Vast.ai stores variables and ports as one string of Docker
flags and parses it itself: values that it might parse differently from a shell are refused here.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gesso.manifest.strict import HiddenValueError, Strict

NAME_LIMIT = 256  # characters; this and the next from Vast.ai's API documentation
ENV_LIMIT = 1024  # characters of all flags
ONSTART_LIMIT = 4048  # characters
PORTS_LIMIT = 64  # open ports of one instance; one is kept for sshd
GATE_PORT = 8188
ENTRYPOINT = "entrypoint.sh"
TOKEN_REQUEST = ("OPEN_BUTTON_TOKEN", "1")  # Vast.ai replaces the 1 with a generated token

VERSION = r"^[0-9]+\.[0-9]+$"
OPERATORS = ("eq", "neq", "lt", "lte", "gt", "gte", "in", "notin")
# Filters that are derived, and the keys to set instead.
DERIVED_FILTERS = {
    "gpu_ram": "vast.gpu_gb, else hardware.vram_gb",
    "cuda_max_good": "vast.cuda, else torch's build",
    "inet_down": "vast.inet_down_mbps",
    "disk_space": "vast.headroom_gb and vast.tier",
    "direct_port_count": "vast.ports",
}

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_ENV_VALUE = re.compile(r"[ !#%-&(-\[\]-_a-~]*")  # printable ASCII, without " $ ' \ and `
_BARE = re.compile(r"[A-Za-z0-9_./:,@%+=-]+")
_SECRET_NAME = re.compile(r"(^|_)(TOKEN|KEY|SECRET|PASS|PASSWORD|CREDENTIALS)$")
_SECRET_VALUE = re.compile(r"\b(hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9-]{16,})")
_PORT = re.compile(r"([1-9][0-9]{0,4})(?::([1-9][0-9]{0,4}))?(/tcp|/udp)?")
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,39}")
_NUMBER = re.compile(r"-?[0-9]+\.[0-9]+")


def _line(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("must be one line without leading or trailing spaces")
    return text


def _env_name(name: str) -> str:
    if not _ENV_NAME.fullmatch(name):
        raise ValueError("must be at most 64 letters, digits and _, not starting with a digit")
    if _SECRET_NAME.search(name.upper()) and name != TOKEN_REQUEST[0]:
        raise ValueError(
            "looks like a secret: everyone who sees the template can read it; set it in your Vast.ai account"
        )
    return name


def _env_value(value: str) -> str:
    if not _ENV_VALUE.fullmatch(value):
        raise ValueError("must be printable ASCII without quotes, \\, $ and `: Vast.ai parses the flags itself")
    if _SECRET_VALUE.search(value):
        raise HiddenValueError(
            "contains a token: everyone who sees the template can read it; set it in your Vast.ai account"
        )
    return value


def _port(given: Any) -> Any:
    """Normalise a port to HOST:CONTAINER[/udp]; 8188 is short for 8188:8188."""
    if isinstance(given, bool) or not isinstance(given, int | str):
        return given
    match = _PORT.fullmatch(str(given))
    if match is None or any(int(number) > 65535 for number in match.groups()[:2] if number):
        raise ValueError("must be a port such as 8188, 8188:8188 or 4000:4000/udp")
    return f"{match[1]}:{match[2] or match[1]}{'/udp' if match[3] == '/udp' else ''}"


def _filter_name(name: str) -> str:
    if not _FIELD.fullmatch(name):
        raise ValueError("must be a field of Vast.ai's offers, such as reliability")
    if name in DERIVED_FILTERS:
        raise ValueError(f"is derived from {DERIVED_FILTERS[name]}: set that instead")
    return name


def _number(given: Any) -> Any:
    return float(given) if isinstance(given, str) and _NUMBER.fullmatch(given) else given


def _comparable(value: Any) -> Any:
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError("must be true, false, a number or text")
    return value


_Value = Annotated[
    Any,
    BeforeValidator(_number),
    AfterValidator(_comparable),
    WithJsonSchema({"type": ["boolean", "number", "string", "null"]}),
]
_Number = Annotated[float | None, BeforeValidator(_number)]
_Line = Annotated[str, StringConstraints(min_length=3, max_length=NAME_LIMIT), AfterValidator(_line)]
_Port = Annotated[str, BeforeValidator(_port), WithJsonSchema({"type": ["integer", "string"]})]


class Filter(Strict):
    """The conditions on one field of an offer."""

    eq: _Value = None
    neq: _Value = None
    lt: _Number = None
    lte: _Number = None
    gt: _Number = None
    gte: _Number = None
    within: tuple[_Value, ...] | None = Field(default=None, alias="in", min_length=1)
    notin: tuple[_Value, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.plain():
            raise ValueError(f"must set at least one of {', '.join(OPERATORS)}")
        return self

    def plain(self) -> dict[str, Any]:
        """Return the filter as Vast.ai's API expects it."""
        conditions = self.model_dump(exclude_none=True, by_alias=True)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in conditions.items()}


class Vast(Strict):
    """The Vast.ai template."""

    name: _Line | None = Field(default=None, description="the template's name; default: `gesso: TITLE`")
    private: Annotated[bool, Field(strict=True)] = Field(default=True, description="false: listed in searches")
    readme_visible: Annotated[bool, Field(strict=True)] = True
    launch: Literal["ssh", "jupyter", "args"] = Field(
        default="ssh", description="ssh and jupyter replace the image's entrypoint and run `onstart`; args keeps it"
    )
    onstart: str | None = Field(
        default=None, description=f"script that runs at every start, in ssh and jupyter mode; must start {ENTRYPOINT}"
    )
    tier: Literal["required", "recommended", "optional"] = Field(
        default="recommended", description="the disk is sized for the models down to this tier"
    )
    headroom_gb: Annotated[int, Field(gt=0, strict=True)] = Field(
        default=20, description="disk space beyond image and models: images, uploads, your own models"
    )
    gpu_gb: Annotated[int, Field(gt=0, strict=True)] | None = Field(
        default=None, description="GPU memory; default: hardware.vram_gb"
    )
    cuda: Annotated[str, StringConstraints(pattern=VERSION)] | None = Field(
        default=None, description="CUDA version that the host's driver must support; default: that of torch"
    )
    inet_down_mbps: Annotated[int, Field(gt=0, strict=True)] = Field(
        default=500, description="download speed of the host in Mbit/s"
    )
    ports: tuple[_Port, ...] = Field(
        default=(f"{GATE_PORT}:{GATE_PORT}",), description="open ports, such as 8188 or 4000:4000/udp"
    )
    env: dict[Annotated[str, AfterValidator(_env_name)], Annotated[str, AfterValidator(_env_value)] | None] = Field(
        default={}, description="environment variables of the instance; null removes one"
    )
    filters: dict[Annotated[str, AfterValidator(_filter_name)], Filter | None] = Field(
        default={}, description="further conditions on offers, by field: {reliability: {gte: 0.98}}"
    )
    readme: str | None = Field(default=None, description="more text for the template's README, as Markdown")

    # Validators of one key against those above it, so that the message has that key's line.
    @field_validator("onstart")
    @classmethod
    def _starts_gesso(cls, onstart: str | None, others: ValidationInfo) -> str | None:
        if onstart is None:
            return None
        if others.data.get("launch") == "args":
            raise HiddenValueError("is not run when launch is args; remove it, or choose ssh or jupyter")
        if len(onstart) > ONSTART_LIMIT:
            raise HiddenValueError(f"has {len(onstart):,} characters; Vast.ai allows {ONSTART_LIMIT:,}")
        if not re.search(rf"^[ \t]*(exec +)?(/usr/local/bin/)?{re.escape(ENTRYPOINT)}\b", onstart, re.MULTILINE):
            raise HiddenValueError(f"must start {ENTRYPOINT} on its own line: nothing else starts ComfyUI in this mode")
        return onstart

    @field_validator("ports")
    @classmethod
    def _reachable(cls, ports: tuple[str, ...]) -> tuple[str, ...]:
        if f"{GATE_PORT}:{GATE_PORT}" not in ports:
            raise HiddenValueError(f"must include {GATE_PORT}, the port of the gate")
        if len(set(ports)) != len(ports):
            raise HiddenValueError("lists a port twice")
        if len(ports) >= PORTS_LIMIT:
            raise HiddenValueError(f"has {len(ports)} ports; an instance has {PORTS_LIMIT}, including one for SSH")
        return ports

    @field_validator("env")
    @classmethod
    def _short_enough(cls, env: dict[str, str | None], others: ValidationInfo) -> dict[str, str | None]:
        name, request = TOKEN_REQUEST
        if env.get(name) not in {None, request}:
            raise HiddenValueError(f'{name} must be "{request}": Vast.ai replaces it with a token for the renter')
        length = len(docker_flags(others.data.get("ports", ()), env))
        if length > ENV_LIMIT:
            raise HiddenValueError(
                f"has {length:,} characters with `ports`, as Docker flags; Vast.ai allows {ENV_LIMIT:,}"
            )
        return env


def docker_flags(ports: tuple[str, ...], env: dict[str, str | None]) -> str:
    """Format ports and variables for Vast.ai: one string of Docker flags. Deterministic."""
    parts = [f"-p {port}" for port in ports]
    parts += [f"-e {name}={_quoted(value)}" for name, value in sorted(env.items()) if value is not None]
    return " ".join(parts)


def _quoted(value: str) -> str:
    return value if not value or _BARE.fullmatch(value) else f"'{value}'"
