"""Check one workflow file, and compare a workflow's two formats. Pure: text and tables in, findings out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.workflow import policy, validation
from gesso.workflow.dataflow import DataflowResult, trace
from gesso.workflow.findings import Finding, printable
from gesso.workflow.graph import Graph, from_api, is_editor_format, load_json
from gesso.workflow.ui_to_api import ui_to_api
from gesso.workflow.user_models import UserModels

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.workflow.arch import Arch
    from gesso.workflow.dataflow import ModelInfo
    from gesso.workflow.object_info import NodeClasses

NO_USER_MODELS = UserModels()
# Output nodes, for when the class definitions are not available.
_OUTPUT_CLASSES = {
    policy.KRITA_OUTPUT,
    "ETN_KritaSendText",
    "SaveImage",
    "PreviewImage",
    "SaveLatent",
    "ETN_SendImageWebSocket",
}


@dataclass(frozen=True)
class CheckResult:
    """The result for one file: its graph, the facts about its edges, and the findings."""

    graph: Graph
    dataflow: DataflowResult
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors."""
        return tuple(finding for finding in self.findings if finding.is_error)


def read(text: str, file: str, classes: NodeClasses) -> Graph:
    """Read a graph in either format.

    Raises GraphError.
    """
    data = load_json(text, file)
    return ui_to_api(data, file, classes) if is_editor_format(data) else from_api(data, file)


def live_nodes(graph: Graph, classes: NodeClasses) -> set[str]:
    """Return the ids of the nodes that run: those that lead to an output; all of them if there is no output."""
    ends = {
        node.id
        for node in graph.nodes.values()
        if node.type in _OUTPUT_CLASSES or ((definition := classes.get(node.type)) is not None and definition.is_output)
    }
    return graph.upstream(ends) or set(graph.nodes)


def check(
    graph: Graph,
    classes: NodeClasses,
    arch: Arch | None = None,
    *,
    resolve: Callable[[str, str], ModelInfo | None] | None = None,
    user_models: UserModels = NO_USER_MODELS,
) -> CheckResult:
    """Check a graph for an image (`arch`), or with `resolve` alone only whether its parts are compatible.

    `user_models` are allowed in addition to the manifest's.
    """
    live = live_nodes(graph, classes)

    def lookup(folder: str, name: str) -> ModelInfo | None:
        found = resolve(folder, name) if resolve else arch.resolve(folder, name) if arch else None
        return found or user_models.resolve(folder, name)

    dataflow = trace(graph, lookup, classes, live)
    findings = [f for f in dataflow.findings if arch is not None or f.code != "latent-node"]
    if arch is not None:
        findings += policy.problems(graph, arch, classes, live, user_models.has)
    if classes:
        findings += validation.problems(graph, classes, live)
    else:
        findings.append(Finding(code="classes-unchecked", file=graph.file, what="no ComfyUI is running here",
                                should="checked in a checkout of the project, or while ComfyUI runs"))  # fmt: skip
    return CheckResult(graph, dataflow, tuple(dict.fromkeys(findings)))


def differences(editor: Graph, api: Graph) -> list[Finding]:
    """Compare the two formats of a workflow: the same nodes, titles, links and values."""
    found = []
    for name in sorted({*editor.nodes, *api.nodes}):
        one, other = editor.nodes.get(name), api.nodes.get(name)
        if one is None or other is None:
            present, file = (other, editor.file) if one is None else (one, api.file)
            assert present is not None
            found.append(_difference(file, name, present.title, "", "missing", f"a {present.type}"))
            continue
        if one.type != other.type:
            found.append(_difference(api.file, name, other.title, "", other.type, one.type))
        if one.title != other.title:
            found.append(_difference(api.file, name, other.title, "title", repr(other.title), repr(one.title)))
        for key in sorted({*one.inputs, *other.inputs}):
            first, second = (_comparable(node.inputs.get(key)) for node in (one, other))
            if first != second:
                found.append(_difference(api.file, name, other.title, key, second, first))
    return found


def _difference(file: str, node: str, title: str, edge: str, what: str, should: str) -> Finding:
    return Finding(code="formats-differ", file=file, node=printable(node, 60), title=printable(title, 80), edge=edge,
                   what=printable(what), should=f"{printable(should)} as in the other format")  # fmt: skip


def _comparable(value: object) -> str:
    """Return a form in which 1, 1.0 and true differ, as they do in JSON."""
    return f"{type(value).__name__} {value!r}"
