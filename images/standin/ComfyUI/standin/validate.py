"""Validate a prompt before it is queued; errors have the text and the shape of ComfyUI's own."""

from __future__ import annotations

from typing import Any

from .registry import NODE_CLASS_MAPPINGS, is_output

Error = dict[str, Any]
CONVERSIONS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
# Inputs of these types add inputs of their own ("a.b"); only the real server can validate them.
DYNAMIC = ("COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3", "COMFY_DYNAMICSLOT_V3")
ANYTHING = ("*", "COMFY_MATCHTYPE_V3")


def error(kind: str, message: str, details: str = "", **extra: Any) -> Error:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


def validate(prompt: dict[str, Any]) -> tuple[Error | None, list[str], dict[str, Any]]:
    """Return the error or None, the output nodes that may run, and the errors by node."""
    for node_id, node in prompt.items():
        if problem := _unknown_class(node_id, node):
            return problem, [], {}
    outputs = [n for n, node in prompt.items() if is_output(NODE_CLASS_MAPPINGS[node["class_type"]])]
    if not outputs:
        return error("prompt_no_outputs", "Prompt has no outputs"), [], {}
    check = _Check(prompt)
    good: list[str] = []
    node_errors: dict[str, Any] = {}
    for output in outputs:
        if check.node(output, []):
            good.append(output)
            continue
        for node_id in check.errors:
            entry = node_errors.setdefault(
                node_id,
                {
                    "errors": check.errors[node_id],
                    "dependent_outputs": [],
                    "class_type": prompt[node_id]["class_type"],
                },
            )
            entry["dependent_outputs"].append(output)
    if good:
        return None, good, node_errors
    reasons = [f"{e['message']}: {e['details']}" for o in outputs for e in check.errors.get(o, [])]
    failed = error("prompt_outputs_failed_validation", "Prompt outputs failed validation", "\n".join(reasons))
    return failed, [], node_errors


def _unknown_class(node_id: str, node: dict[str, Any]) -> Error | None:
    name = node.get("class_type")
    if name in NODE_CLASS_MAPPINGS:
        return None
    title = node.get("_meta", {}).get("title", name)
    if name is None:
        message = (
            f"Node '{title or f'ID #{node_id}'}' has no class_type. "
            "The workflow may be corrupted or a custom node is missing."
        )
    else:
        message = f"Node '{title}' not found. The custom node may not be installed."
    where = {"node_id": node_id, "class_type": name, "node_title": title}
    return error("missing_node_type", message, f"Node ID '#{node_id}'", **where)


class _Check:
    def __init__(self, prompt: dict[str, Any]) -> None:
        self.prompt = prompt
        self.errors: dict[str, list[Error]] = {}
        self._done: dict[str, bool] = {}

    def node(self, node_id: str, path: list[str]) -> bool:
        """Return whether the node and all nodes that it depends on are valid; errors are stored by node."""
        if node_id in path:
            self._cycle(path[path.index(node_id) :])
        if node_id in self._done:
            return self._done[node_id]
        node = self.prompt[node_id]
        kind = NODE_CLASS_MAPPINGS[node["class_type"]]
        tables = kind.INPUT_TYPES()
        given = node.setdefault("inputs", {})
        inputs_valid = True
        found: list[Error] = []
        for category in ("required", "optional"):
            for name, spec in tables.get(category, {}).items():
                config = spec[1] if len(spec) > 1 else {}
                if spec[0] in DYNAMIC:
                    continue
                if name not in given:
                    if category == "required":
                        found.append(_at(name, "required_input_missing", "Required input is missing"))
                elif isinstance(given[name], list):
                    problem, source_valid = self._link(name, (spec[0], config), given[name], [*path, node_id])
                    inputs_valid = inputs_valid and source_valid
                    found += [problem] if problem else []
                elif problem := _value(name, (spec[0], config), given):
                    found.append(problem)
        if found:
            self.errors.setdefault(node_id, []).extend(found)
        self._done[node_id] = inputs_valid and node_id not in self.errors
        return self._done[node_id]

    def _link(self, name: str, info: tuple[Any, Any], link: list[Any], path: list[str]) -> tuple[Error | None, bool]:
        if len(link) != 2:
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return _at(name, "bad_linked_input", message, input_config=info, received_value=link), True
        source, slot = link
        try:
            received = NODE_CLASS_MAPPINGS[self.prompt[source]["class_type"]].RETURN_TYPES[slot]
        except (KeyError, IndexError, TypeError) as problem:
            inner = len(path) > 1  # the path ends with this node and begins with an output
            return error(
                "exception_during_inner_validation" if inner else "exception_during_validation",
                f"Exception when validating {'inner ' if inner else ''}node",
                str(problem),
                exception_type=type(problem).__name__,
                traceback=[],
            ), True
        if not accepts(info[0], received):
            details = f"{name}, received_type({received}) mismatch input_type({info[0]})"
            extra = {"input_name": name, "input_config": info, "received_type": received, "linked_node": link}
            return error("return_type_mismatch", "Return type mismatch between linked nodes", details, **extra), True
        return None, self.node(source, path)

    def _cycle(self, nodes: list[str]) -> None:
        cycle = " -> ".join(f"{n} ({self.prompt[n]['class_type']})" for n in [*nodes, nodes[0]])
        for node in nodes:
            self._done[node] = False
            self.errors[node] = [
                error("dependency_cycle", "Dependency cycle detected", cycle, node_id=node, cycle_nodes=nodes)
            ]


def accepts(expected: Any, received: Any) -> bool:
    """Return whether an input accepts an output's type: comma-separated names, or a list of choices (COMBO)."""
    if expected == received or expected in ANYTHING or received in ANYTHING:
        return True
    if isinstance(received, list):
        return bool(expected == "COMBO")
    if not isinstance(expected, str):
        return False
    expected_names, received_names = ({t.strip() for t in s.split(",")} for s in (expected, received))
    return "*" in expected_names | received_names or bool(expected_names & received_names)


def _at(name: str, kind: str, message: str, details: str | None = None, **extra: Any) -> Error:
    return error(kind, message, name if details is None else details, input_name=name, **extra)


def _value(name: str, info: tuple[Any, Any], given: dict[str, Any]) -> Error | None:
    """Check a literal value and convert it in place, as ComfyUI does."""
    kind, config = info
    value = given[name]
    if isinstance(value, dict) and "__value__" in value:
        value = given[name] = value["__value__"]
    if isinstance(kind, str) and kind in CONVERSIONS:
        try:
            value = given[name] = CONVERSIONS[kind](value)
        except (TypeError, ValueError) as problem:
            message = f"Failed to convert an input value to a {kind} value"
            extra = {"input_config": info, "received_value": value, "exception_message": str(problem)}
            return _at(name, "invalid_input_type", message, f"{name}, {value}, {problem}", **extra)
    extra = {"input_config": info, "received_value": value}
    if "min" in config and value < config["min"]:
        return _at(name, "value_smaller_than_min", f"Value {value} smaller than min of {config['min']}", **extra)
    if "max" in config and value > config["max"]:
        return _at(name, "value_bigger_than_max", f"Value {value} bigger than max of {config['max']}", **extra)
    if not isinstance(kind, list) and kind != "COMBO":
        return None
    options = kind if isinstance(kind, list) else config.get("options", [])
    chosen = value if config.get("multiselect") and isinstance(value, list) else [value]
    if not (invalid := [v for v in chosen if v not in options]):
        return None
    listed = str(options)
    if len(options) > 20:  # a long list of models is neither displayed nor returned
        listed, extra["input_config"] = f"(list of length {len(options)})", None
    details = f"{name}: {', '.join(map(repr, invalid))} not in {listed}"
    return _at(name, "value_not_in_list", "Value not in list", details, **extra)
