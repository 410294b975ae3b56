"""The manifest's schema: one definition for loading, messages and editors."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gesso.manifest.folders import FOLDERS
from gesso.manifest.strict import Strict
from gesso.manifest.vast import VERSION, Vast
from gesso.manifest.workflows import WorkflowItem

SHA256 = r"^[0-9a-f]{64}$"
PICKLE_SUFFIXES = (
    ".pt",
    ".pth",
    ".ckpt",
    ".bin",
    ".pkl",
    ".patch",
)  # .patch: Fooocus's inpaint model is a pickle
NAMED_LISTS = ("models", "nodes")  # lists of named things: an overlay changes them by name
BY_THE_LOCK = ("size_confirmed",)  # keys of a model that `invoke lock` decides: a manifest must not have them
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")

SLUG = r"^[a-z][a-z0-9-]{0,39}$"
REQUIREMENT = r"^[A-Za-z0-9][^\n\\]*$"
DISTRIBUTION = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
PACKAGE = r"^[a-z0-9][a-z0-9+.-]+$"
CLASS_ID = r"^[A-Za-z0-9_ .+()/|-]{1,120}$"
IMAGE = r"^[a-z0-9][a-z0-9._/:-]*:[A-Za-z0-9._-]+$"
REF = r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$"
FOLDER = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"
CUDA = VERSION

Slug = Annotated[str, StringConstraints(pattern=SLUG)]
Requirement = Annotated[str, StringConstraints(pattern=REQUIREMENT, strip_whitespace=True)]
Distribution = Annotated[str, StringConstraints(pattern=DISTRIBUTION)]
Package = Annotated[str, StringConstraints(pattern=PACKAGE)]
ClassId = Annotated[str, StringConstraints(pattern=CLASS_ID)]
Workflows = tuple[WorkflowItem, ...]
Family = Literal["sd15", "sd2", "sdxl", "sdxl-refiner", "sd3", "flux", "flux2", "any"]
Tier = Literal["required", "recommended", "optional"]
Kind = Literal[
    "checkpoint", "clip_vision", "controlnet", "diffusion_model", "inpaint", "ipadapter", "lora", "style_model",
    "text_encoder", "upscale_model", "vae",
]  # fmt: skip


def _safe_name(name: str) -> str:
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        raise ValueError("must be a path under models/, not an absolute one")
    if ".." in name.split("/"):
        raise ValueError("must stay under models/: `..` is not allowed")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)+", name):
        raise ValueError("must be folder/file in letters, digits and . _ + - (as in vae/sdxl_vae_fp16.safetensors)")
    if not name.lower().endswith(PICKLE_SUFFIXES) and not name.endswith((".safetensors", ".gguf", ".sft")):
        raise ValueError(f"must be .safetensors, .sft or .gguf, or one of {' '.join(PICKLE_SUFFIXES)} with reason")
    return name


def _split_url(url: str) -> SplitResult:
    if not re.fullmatch(r"[!-~]+", url):  # urlsplit() takes line breaks out and says nothing
        raise ValueError("must be an address without spaces, line breaks and non-ASCII letters (write them as %20)")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("must be an https:// address") from None
    return parts


def _source_url(url: str) -> str:
    parts = _split_url(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("must be an https:// address")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        raise ValueError("must be https (plain http is for loopback only)")
    if parts.username or parts.password:
        raise ValueError("must not carry a user or password; give a token in the environment instead")
    if parts.fragment:
        raise ValueError("must not have a #fragment")
    return url


def _git_url(url: str) -> str:
    parts = _split_url(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return url
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("must be an https:// or file:/// address (mirrors: git's url.<base>.insteadOf)")
    if parts.username or parts.password:
        raise ValueError("must not carry a user or password; use a git credential helper")
    return url


def _relative_path(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("must be a path inside the project or pack: no absolute path, no `..`")
    if not re.fullmatch(r"[A-Za-z0-9._+/-]+", path):
        raise ValueError("must be a path in letters, digits and . _ + - /")
    return path


def _python_of_debian(version: str) -> str:
    if not re.fullmatch(r"3\.[0-9]{2}", version):
        raise ValueError('must be a Python version such as "3.13"')
    return version


class Base(Strict):
    """The base image: a published one, locked by digest, or one made here from Debian's own packages."""

    image: Annotated[str, StringConstraints(pattern=IMAGE)] | None = None
    bootstrap: Slug | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.image is None) == (self.bootstrap is None):
            raise ValueError("give one of `image` (name:tag) and `bootstrap` (a Debian suite)")
        return self


class Source(Strict):
    """Source code: a git repository at a ref, or (for trials) a folder of this project."""

    git: Annotated[str, AfterValidator(_git_url)] | None = None
    ref: Annotated[str, StringConstraints(pattern=REF)] | None = None
    path: Annotated[str, AfterValidator(_relative_path)] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.git is None) == (self.path is None):
            raise ValueError("give one of `git` (with `ref`) and `path`")
        if self.git is not None and self.ref is None:
            raise ValueError("`git` needs a `ref`: a tag, a branch or a commit")
        if self.path is not None and self.ref is not None:
            raise ValueError("`ref` goes with `git`, not with `path`")
        return self


class Node(Source):
    """A node pack; `name` is its folder under custom_nodes/."""

    name: Annotated[str, StringConstraints(pattern=FOLDER)]
    requirements: Annotated[str, AfterValidator(_relative_path)] | None = Field(
        default="requirements.txt",
        description="its requirements file, resolved together with all others; null where it must not count",
    )
    install: Annotated[str, AfterValidator(_relative_path)] | None = Field(
        default=None, description="a Python script of the pack that is run once while the image is built"
    )


class PythonLayer(Strict):
    """A group of distributions that becomes a layer of its own; the first group that matches takes it."""

    name: Slug
    match: tuple[str, ...] = Field(min_length=1, description="glob patterns over distribution names")


class Python(Strict):
    """ComfyUI's Python: one resolution of everything."""

    version: Annotated[str, AfterValidator(_python_of_debian)]
    requirements: tuple[Requirement, ...] = ()
    constraints: tuple[Requirement, ...] = Field(
        default=(), description="ranges that nothing may leave; a conflict is an error"
    )
    overrides: tuple[Requirement, ...] = Field(default=(), description="replace what any requirement says")
    exclude: tuple[Distribution, ...] = Field(default=(), description="distributions that are left out")
    index: Annotated[str, AfterValidator(_source_url)] | None = Field(
        default=None, description="an additional package index, for another CUDA build of torch"
    )
    layers: tuple[PythonLayer, ...] = ()


class Model(Strict):
    """A model file; `name` is its path under models/."""

    name: Annotated[str, AfterValidator(_safe_name)]
    sources: tuple[Annotated[str, AfterValidator(_source_url)], ...] = Field(
        min_length=1, description="the first is primary, the rest mirrors"
    )
    sha256: Annotated[str, StringConstraints(pattern=SHA256)]
    size: Annotated[int, Field(gt=0, strict=True)] | None = Field(default=None, description="bytes")
    # True: the host itself said this size, beside the sha256. Else the size is a hint, and refuses no file.
    size_confirmed: Annotated[bool, Field(strict=True)] = False
    kind: Kind
    family: Family
    tier: Tier
    license: Annotated[str, StringConstraints(min_length=2)]
    gated: Annotated[bool, Field(strict=True)] = False
    redistribute: Annotated[bool, Field(strict=True)] = Field(
        default=True, description="false where the licence forbids baking the file into a public image"
    )
    allow_pickle: Annotated[str, StringConstraints(min_length=8)] | None = Field(
        default=None, validate_default=True, description="why a format that can run code is accepted"
    )
    note: str | None = None

    # Checks of one key against `name`, and not of the whole: so they count even where another key is wrong.
    @field_validator("kind")
    @classmethod
    def _in_its_folder(cls, kind: Kind, others: ValidationInfo) -> Kind:
        folder = others.data.get("name", "").split("/", 1)[0]
        if folder and folder not in FOLDERS[kind]:
            raise ValueError(f"belongs in {' or '.join(FOLDERS[kind])}/, not in {folder}/")
        return kind

    @field_validator("allow_pickle")
    @classmethod
    def _pickles_only(cls, reason: str | None, others: ValidationInfo) -> str | None:
        name = others.data.get("name", "")
        pickle = name.lower().endswith(PICKLE_SUFFIXES)
        if pickle and reason is None:
            raise ValueError(f'{name} can run code when it is loaded: give allow_pickle: "why it is accepted"')
        if name and not pickle and reason is not None:
            raise ValueError(f"is for pickle formats only ({' '.join(PICKLE_SUFFIXES)})")
        return reason


class Hardware(Strict):
    """What the architecture requires of a machine."""

    vram_gb: Annotated[int, Field(gt=0, strict=True)]
    cuda: Annotated[str, StringConstraints(pattern=CUDA)]


class Budget(Strict):
    """What an image and each of its layers may have, in GB (10^9 bytes) unpacked, without baked models."""

    image_gb: Annotated[float, Field(gt=0)] = 7.0
    layer_gb: Annotated[float, Field(gt=0)] = 2.0


class Manifest(Strict):
    """Everything that an architecture's image is made of, after `extends` and overlays."""

    arch: Slug
    title: Annotated[str, StringConstraints(min_length=3)]
    family: Family = Field(description="the one model family that this image is locked to")
    base: Base
    apt: tuple[Package, ...] = ()
    apt_without: tuple[Package, ...] = Field(
        default=(), description="packages that others depend on and the image does without; an empty one stands in"
    )
    comfyui: Source
    nodes: tuple[Node, ...] = ()
    python: Python
    models: tuple[Model, ...] = Field(min_length=1)
    vae: str = Field(description="the locked VAE: the `name` of one of the models")
    workflows: Workflows = Field(min_length=1)
    classes: tuple[ClassId, ...] = Field(description="node classes without which Krita refuses the server")
    hardware: Hardware
    budget: Budget = Field(default=Budget(), description="a larger image is refused by its test: a host has to pull it")
    vast: Vast = Field(default=Vast(), description="the template at Vast.ai")
    trial: Annotated[bool, Field(strict=True)] = Field(default=False, description="set by --trial only")


def editor_schema() -> dict[str, Any]:
    """Return the JSON Schema for editors: a file may be partial and extend another, so nothing is required."""
    schema: dict[str, Any] = Manifest.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "gesso manifest"
    partial = [schema, *(d for name, d in schema["$defs"].items() if name not in {"Model", "Node", "Workflow"})]
    for definition in partial:
        definition.pop("required", None)
    for name in ("Model", "Node"):  # an overlay names one of a list and changes some of it
        schema["$defs"][name]["required"] = ["name"]
        schema["$defs"][name]["properties"]["remove"] = {
            "const": True, "description": "overlays: take the thing of this name out",
        }  # fmt: skip
    for key in BY_THE_LOCK:
        del schema["$defs"]["Model"]["properties"][key]
    schema["properties"]["extends"] = {"type": "string", "description": "the manifest that this one adds to"}
    return schema
