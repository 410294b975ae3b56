"""Node class definitions from ComfyUI's `GET /object_info`: recorded for offline checks, or from a running ComfyUI."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gesso.errors import ManifestError
from gesso.workflow.findings import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_WIDGETS = {"INT", "FLOAT", "BOOLEAN", "STRING", "COMBO", "COLOR", "COMFY_DYNAMICCOMBO_V3"}
_DYNAMIC_TYPES = {
    "COMFY_AUTOGROW_V3",
    "COMFY_DYNAMICCOMBO_V3",
    "COMFY_DYNAMICSLOT_V3",
}  # their inputs are named `name.more`
# Second names of folders, some of them for files of another format.
_FOLDER_ALIASES = {"unet_gguf": "diffusion_models", "clip_gguf": "text_encoders", "unet": "diffusion_models"}
_FOLDER_ALIASES |= {"clip": "text_encoders"}


@dataclass(frozen=True, kw_only=True)
class Field:
    """One input of a class; `folders` if its options are the model files in these folders."""

    name: str
    type: str
    required: bool
    options: tuple[Any, ...] | None = None
    folders: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    control: bool = False
    slot_only: bool = False
    uploads: bool = False
    choices: Mapping[str, tuple[Field, ...]] | None = None

    @property
    def is_widget(self) -> bool:
        """Whether the editor shows a widget for it."""
        return self.type in _WIDGETS and not self.slot_only

    @property
    def is_group(self) -> bool:
        """Whether it is a group of inputs that are named after it: `values.a`."""
        return self.type in _DYNAMIC_TYPES


@dataclass(frozen=True, kw_only=True)
class Definition:
    """The definition of one class: inputs in the server's order, types of its outputs."""

    inputs: Mapping[str, Field]
    outputs: tuple[str, ...]
    is_output: bool

    def field(self, name: str) -> Field | None:
        """Find an input by its name, or by the name of its group."""
        found = self.inputs.get(name)
        if found is None and (root := self.inputs.get(name.split(".", maxsplit=1)[0])) is not None and root.is_group:
            return root
        return found


class NodeClasses:
    """Every class by its id, parsed on first use: of a thousand classes a graph uses thirty."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw
        self._read: dict[str, Definition | None] = {}

    def __bool__(self) -> bool:
        return bool(self._raw)

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __contains__(self, name: str) -> bool:
        return name in self._raw

    @functools.cached_property
    def output_types(self) -> frozenset[str]:
        """Every type that some class outputs; only the editor can fill an input of another type."""
        lists = (raw.get("output") for raw in self._raw.values() if isinstance(raw, dict))
        return frozenset(t for types in lists if isinstance(types, list) for t in types if isinstance(t, str))

    def get(self, name: str) -> Definition | None:
        """Return a class's definition; None for an unknown class."""
        if name not in self._read:
            raw = self._raw.get(name)
            self._read[name] = _definition(raw) if isinstance(raw, dict) else None
        return self._read[name]


def recorded(images: Path) -> NodeClasses:
    """Load the recordings that the stand-in serves: ComfyUI's own classes and those of the node packs.

    Raises ManifestError where one cannot be read.
    """
    raw: dict[str, Any] = {}
    standin = images / "standin"
    for path in [standin / "ComfyUI/recorded/core.json", *sorted(standin.glob("custom_nodes/*/recorded.json"))]:
        try:
            raw |= json.loads(path.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise ManifestError(
                f"{path}: {printable(str(error))}", "record again with images/standin/record.py"
            ) from None
    return NodeClasses(raw)


def _definition(raw: dict[str, Any]) -> Definition:
    inputs: dict[str, Field] = {}
    table, order = _table(raw, "input"), _table(raw, "input_order")
    for kind in ("required", "optional"):
        specs = table.get(kind)
        if not isinstance(specs, dict):
            continue
        names = order.get(kind)
        listed = [n for n in names if isinstance(n, str) and n in specs] if isinstance(names, list) else []
        for name in dict.fromkeys([*listed, *specs]):
            inputs[name] = _field(name, specs[name], required=kind == "required")
    outputs = raw.get("output")
    types = tuple(o if isinstance(o, str) else "COMBO" for o in outputs) if isinstance(outputs, list) else ()
    return Definition(inputs=inputs, outputs=types, is_output=raw.get("output_node") is True)


def _field(name: str, spec: Any, *, required: bool) -> Field:
    kind = spec[0] if isinstance(spec, list) and spec else "*"
    config = spec[1] if isinstance(spec, list) and len(spec) > 1 and isinstance(spec[1], dict) else {}
    type_ = kind if isinstance(kind, str) else "COMBO"  # the older format: the options in place of the type
    options = config.get("options") if isinstance(kind, str) else kind
    folders: tuple[str, ...] = ()
    if isinstance(options, dict):
        named = options.get("folder")
        listed = named if isinstance(named, list) else [named]
        folders = tuple(dict.fromkeys(_FOLDER_ALIASES.get(f, f) for f in listed if isinstance(f, str)))
        options = options.get("extra") or []
    choices = _choices(name, options) if type_ == "COMFY_DYNAMICCOMBO_V3" else None
    return Field(
        name=name,
        type=type_,
        required=required,
        options=tuple(options) if isinstance(options, list) and choices is None else None,
        folders=folders,
        low=_number(config.get("min")),
        high=_number(config.get("max")),
        control=bool(config.get("control_after_generate")),
        slot_only=config.get("forceInput") is True,
        uploads=any(config.get(key) for key in ("image_upload", "audio_upload", "video_upload")),
        choices=choices,
    )


def _choices(name: str, options: Any) -> dict[str, tuple[Field, ...]]:
    """Parse the options that have inputs of their own, each named `name.input`."""
    found: dict[str, tuple[Field, ...]] = {}
    for option in options if isinstance(options, list) else []:
        if isinstance(option, dict) and isinstance(option.get("key"), str):
            inner = _definition({"input": option.get("inputs")}).inputs.values()
            found[option["key"]] = tuple(_prefixed(field, name) for field in inner)
    return found


def _prefixed(inner: Field, name: str) -> Field:
    return replace(inner, name=f"{name}.{inner.name}")


def _table(raw: dict[str, Any], key: str) -> dict[str, Any]:
    found = raw.get(key)
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
