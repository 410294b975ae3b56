"""The registered node classes, and their description as GET /object_info returns it."""

from __future__ import annotations

from typing import Any

NODE_CLASS_MAPPINGS: dict[str, type[Any]] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
EXTENSION_WEB_DIRS: dict[str, str] = {}


def describe(name: str) -> dict[str, Any]:
    """Describe a class as ComfyUI would, whether it was recorded or comes from any other pack."""
    node = NODE_CLASS_MAPPINGS[name]
    inputs: dict[str, Any] = node.INPUT_TYPES()
    outputs = list(node.RETURN_TYPES)
    return {
        "input": inputs,
        "input_order": {kind: list(table) for kind, table in inputs.items()},
        "is_input_list": getattr(node, "INPUT_IS_LIST", False),
        "output": outputs,
        "output_is_list": list(getattr(node, "OUTPUT_IS_LIST", [False] * len(outputs))),
        "output_name": list(getattr(node, "RETURN_NAMES", outputs)),
        "name": name,
        "display_name": NODE_DISPLAY_NAME_MAPPINGS.get(name, name),
        "description": getattr(node, "DESCRIPTION", ""),
        "python_module": getattr(node, "RELATIVE_PYTHON_MODULE", "nodes"),
        "category": getattr(node, "CATEGORY", "sd"),
        "output_node": is_output(node),
        "has_intermediate_output": False,
        "search_aliases": [],
    }


def is_output(node: type[Any]) -> bool:
    return getattr(node, "OUTPUT_NODE", False) is True
