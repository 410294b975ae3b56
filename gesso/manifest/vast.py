"""The `vast:` section of a manifest: what the template at Vast.ai says that cannot be derived from the rest of it.

A template is read by strangers, so nothing secret may stand in it. Its variables and ports are one string of Docker
flags there, which Vast.ai takes apart itself: what it might take apart otherwise than a shell is refused here.
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

from gesso.manifest.strict import Strict, UnshownError

NAME_LIMIT = 256  # characters; this and the next as Vast.ai's API documents say
ENV_LIMIT = 1024  # characters of all flags
ONSTART_LIMIT = 4048  # characters
PORTS_LIMIT = 64  # open ports of one instance; one is kept for sshd
GATE_PORT = 8188
ENTRY = "entrypoint.sh"
ASK_FOR_TOKEN = ("OPEN_BUTTON_TOKEN", "1")  # Vast.ai puts a token of its own in the place of the 1

VERSION = r"^[0-9]+\.[0-9]+$"
OPERATORS = ("eq", "neq", "lt", "lte", "gt", "gte", "in", "notin")
# Filters that follow from something else, and what that is.
DERIVED = {
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
        raise ValueError("must be one line, without blanks around it")
    return text


def _env_name(name: str) -> str:
    if not _ENV_NAME.fullmatch(name):
        raise ValueError("must be at most 64 letters, digits and _, no digit first")
    if _SECRET_NAME.search(name.upper()) and name != ASK_FOR_TOKEN[0]:
        raise ValueError("looks like a secret: whoever sees the template sees it; set it in the account at Vast.ai")
    return name


def _env_value(value: str) -> str:
    if not _ENV_VALUE.fullmatch(value):
        raise ValueError("must be printable ASCII without quotes, \\, $ and `: Vast.ai takes the flags apart itself")
    if _SECRET_VALUE.search(value):
        raise UnshownError("holds a token: whoever sees the template sees it; set it in the account at Vast.ai")
    return value


def _port(given: Any) -> Any:
    """Give a port as HOST:CONTAINER[/udp]; 8188 is short for 8188:8188."""
    if isinstance(given, bool) or not isinstance(given, int | str):
        return given
    match = _PORT.fullmatch(str(given))
    if match is None or any(int(number) > 65535 for number in match.groups()[:2] if number):
        raise ValueError("must be a port such as 8188, 8188:8188 or 4000:4000/udp")
    return f"{match[1]}:{match[2] or match[1]}{'/udp' if match[3] == '/udp' else ''}"


def _filter_name(name: str) -> str:
    if not _FIELD.fullmatch(name):
        raise ValueError("must be a field of Vast.ai's offers, such as reliability")
    if name in DERIVED:
        raise ValueError(f"follows from {DERIVED[name]}: set that")
    return name


def _number(given: Any) -> Any:
    return float(given) if isinstance(given, str) and _NUMBER.fullmatch(given) else given


def _comparable(value: Any) -> Any:
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError("must be true, false, a number or a text")
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
    """What one field of an offer must be."""

    eq: _Value = None
    neq: _Value = None
    lt: _Number = None
    lte: _Number = None
    gt: _Number = None
    gte: _Number = None
    within: tuple[_Value, ...] | None = Field(default=None, alias="in", min_length=1)
    notin: tuple[_Value, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.plain():
            raise ValueError(f"must say at least one of {', '.join(OPERATORS)}")
        return self

    def plain(self) -> dict[str, Any]:
        """Give it as Vast.ai's API takes it."""
        said = self.model_dump(exclude_none=True, by_alias=True)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}


class Vast(Strict):
    """The template at Vast.ai."""

    name: _Line | None = Field(default=None, description="what people find it by; without it, `gesso: TITLE`")
    private: Annotated[bool, Field(strict=True)] = Field(default=True, description="false: everybody may find it")
    readme_visible: Annotated[bool, Field(strict=True)] = True
    launch: Literal["ssh", "jupyter", "args"] = Field(
        default="ssh", description="ssh and jupyter replace the image's entrypoint and run `onstart`; args keeps it"
    )
    onstart: str | None = Field(
        default=None, description=f"what runs at every start, in ssh and jupyter mode; it must start {ENTRY}"
    )
    tier: Literal["required", "recommended", "optional"] = Field(
        default="recommended", description="the disk has room for the models down to this tier"
    )
    headroom_gb: Annotated[int, Field(gt=0, strict=True)] = Field(
        default=20, description="disk beyond image and models: pictures, uploads, models of one's own"
    )
    gpu_gb: Annotated[int, Field(gt=0, strict=True)] | None = Field(
        default=None, description="GPU memory; without it, hardware.vram_gb"
    )
    cuda: Annotated[str, StringConstraints(pattern=VERSION)] | None = Field(
        default=None, description="the CUDA that the host's driver can do; without it, what torch was built for"
    )
    inet_down_mbps: Annotated[int, Field(gt=0, strict=True)] = Field(default=500, description="Mbit/s of the host")
    ports: tuple[_Port, ...] = Field(default=(f"{GATE_PORT}:{GATE_PORT}",), description="8188, or 4000:4000/udp")
    env: dict[Annotated[str, AfterValidator(_env_name)], Annotated[str, AfterValidator(_env_value)] | None] = Field(
        default={}, description="variables of the instance; null takes one out"
    )
    filters: dict[Annotated[str, AfterValidator(_filter_name)], Filter | None] = Field(
        default={}, description="further conditions on offers, by field: {reliability: {gte: 0.98}}"
    )
    readme: str | None = Field(default=None, description="more text for the template's README, as Markdown")

    # Checks of one key against those above it, so that the message has its line.
    @field_validator("onstart")
    @classmethod
    def _starts_gesso(cls, onstart: str | None, others: ValidationInfo) -> str | None:
        if onstart is None:
            return None
        if others.data.get("launch") == "args":
            raise UnshownError("is not run where launch is args; leave it out, or choose ssh or jupyter")
        if len(onstart) > ONSTART_LIMIT:
            raise UnshownError(f"has {len(onstart):,} characters; Vast.ai takes {ONSTART_LIMIT:,}")
        if not re.search(rf"^[ \t]*(exec +)?(/usr/local/bin/)?{re.escape(ENTRY)}\b", onstart, re.MULTILINE):
            raise UnshownError(f"must start {ENTRY}, on a line of its own: nothing else starts ComfyUI in this mode")
        return onstart

    @field_validator("ports")
    @classmethod
    def _reachable(cls, ports: tuple[str, ...]) -> tuple[str, ...]:
        if f"{GATE_PORT}:{GATE_PORT}" not in ports:
            raise UnshownError(f"must have {GATE_PORT}: the gate listens there, and nothing else does")
        if len(set(ports)) != len(ports):
            raise UnshownError("names a port twice")
        if len(ports) >= PORTS_LIMIT:
            raise UnshownError(f"has {len(ports)} ports; an instance has {PORTS_LIMIT}, with that of SSH")
        return ports

    @field_validator("env")
    @classmethod
    def _short_enough(cls, env: dict[str, str | None], others: ValidationInfo) -> dict[str, str | None]:
        name, asks = ASK_FOR_TOKEN
        if env.get(name) not in {None, asks}:
            raise UnshownError(f'{name} must be "{asks}": Vast.ai puts a token in its place that only the renter sees')
        length = len(flags(others.data.get("ports", ()), env))
        if length > ENV_LIMIT:
            raise UnshownError(f"has {length:,} characters with `ports`, as Docker flags; Vast.ai takes {ENV_LIMIT:,}")
        return env


def flags(ports: tuple[str, ...], env: dict[str, str | None]) -> str:
    """Give ports and variables as Vast.ai wants them: one string of Docker flags, the same for the same input."""
    said = [f"-p {port}" for port in ports]
    said += [f"-e {name}={_quoted(value)}" for name, value in sorted(env.items()) if value is not None]
    return " ".join(said)


def _quoted(value: str) -> str:
    return value if not value or _BARE.fullmatch(value) else f"'{value}'"
