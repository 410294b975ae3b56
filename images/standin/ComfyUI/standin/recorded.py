"""Node classes from a recorded list (see record.py): the real ones' descriptions, without their computations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import folder_paths

# What a class does when a graph runs it: takes its inputs, returns what the "executed" message shows.
Behaviour = Callable[[dict[str, Any]], dict[str, Any]]


class RecordedNode:
    """Base of all recorded classes; `RECORD` is one line of a recorded.json."""

    RECORD: ClassVar[dict[str, Any]]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  ComfyUI's name
        order = cls.RECORD["input_order"]
        tables = cls.RECORD["input"]
        # Clients map a saved workflow's values to inputs by position, so the order matters.
        return {kind: {n: _spec(tables[kind][n]) for n in order.get(kind, tables[kind])} for kind in order}


def load(path: Path, behaviours: Mapping[str, Behaviour] | None = None) -> dict[str, type[RecordedNode]]:
    """Return all classes of one recorded file, as a NODE_CLASS_MAPPINGS."""
    behaviours = behaviours or {}
    records: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    if stray := behaviours.keys() - records.keys():
        raise KeyError(f"{path}: no such recorded classes: {', '.join(sorted(stray))}")
    return {name: _make(name, record, behaviours.get(name)) for name, record in records.items()}


def load_pack(init_file: str, behaviours: Mapping[str, Behaviour] | None = None) -> dict[str, type[RecordedNode]]:
    """Return the classes of the recorded.json beside a pack's `__init__.py`."""
    return load(Path(init_file).with_name("recorded.json"), behaviours)


def display_names(classes: Mapping[str, type[RecordedNode]]) -> dict[str, str]:
    return {name: node.RECORD["display_name"] for name, node in classes.items()}


def _make(name: str, record: dict[str, Any], behaviour: Behaviour | None) -> type[RecordedNode]:
    members: dict[str, Any] = {
        "RECORD": record,
        "RETURN_TYPES": tuple(record["output"]),
        "RETURN_NAMES": tuple(record["output_name"] or ()),
        "OUTPUT_IS_LIST": tuple(record["output_is_list"]),
        "OUTPUT_NODE": record["output_node"],
        "INPUT_IS_LIST": record.get("is_input_list", False),
        "CATEGORY": record["category"],
        "RELATIVE_PYTHON_MODULE": record["module"],
    }
    if behaviour is not None:
        members["standin_execute"] = staticmethod(behaviour)
    return type(name, (RecordedNode,), members)


def _spec(spec: Any) -> Any:
    """Return an input as of now: `{"folder": …}` becomes the list of files in that folder."""
    if not isinstance(spec, list):
        return spec
    kind, *rest = spec
    if isinstance(kind, dict):
        kind = _files(kind)
    if rest and "options" in rest[0]:
        rest = [{**rest[0], "options": _options(rest[0]["options"])}]
    return [kind, *rest]


def _options(options: Any) -> list[Any]:
    if isinstance(options, dict):
        return _files(options)
    return [_nested(o) if isinstance(o, dict) and "inputs" in o else o for o in options]


def _nested(option: dict[str, Any]) -> dict[str, Any]:
    """Return one option of a dynamic input, with its own inputs filled in."""
    inputs = {kind: {n: _spec(s) for n, s in table.items()} for kind, table in option["inputs"].items()}
    return {**option, "inputs": inputs}


def _files(source: dict[str, Any]) -> list[Any]:
    names = [source["folder"]] if isinstance(source["folder"], str) else source["folder"]
    found: set[str] = set()
    for name in names:
        if name == "input":
            found.update(p.name for p in Path(folder_paths.input_directory).iterdir() if p.is_file())
        elif name in folder_paths.folder_names_and_paths:
            found.update(folder_paths.get_filename_list(name))
    return [*sorted(found), *source.get("extra", [])]
