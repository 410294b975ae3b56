"""The whole check of one file, and of a workflow's two formats. Pure: texts and tables in, findings out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.workflow import policy, validation
from gesso.workflow.dataflow import Followed, follow
from gesso.workflow.findings import Finding, shown
from gesso.workflow.graph import Graph, from_api, is_editor_format, load_json
from gesso.workflow.ui_to_api import from_editor
from gesso.workflow.user_models import OwnFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.workflow.arch import Arch
    from gesso.workflow.dataflow import Known
    from gesso.workflow.object_info import Classes

NO_FILES = OwnFiles()
# Nodes that make a graph run, where no ComfyUI can be asked which those are.
_OUTPUTS = {policy.OUTPUT, "ETN_KritaSendText", "SaveImage", "PreviewImage", "SaveLatent", "ETN_SendImageWebSocket"}


@dataclass(frozen=True)
class Checked:
    """One file: the graph in it, what is known of its edges, and the findings."""

    graph: Graph
    followed: Followed
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What is wrong."""
        return tuple(finding for finding in self.findings if finding.is_error)


def read(text: str, file: str, classes: Classes) -> Graph:
    """Read a graph in either format.

    Raises GraphError.
    """
    data = load_json(text, file)
    return from_editor(data, file, classes) if is_editor_format(data) else from_api(data, file)


def running(graph: Graph, classes: Classes) -> set[str]:
    """Name the nodes that run: those that lead to an output; all of them where there is no output."""
    ends = {
        node.id
        for node in graph.nodes.values()
        if node.type in _OUTPUTS or ((known := classes.get(node.type)) is not None and known.is_output)
    }
    return graph.upstream(ends) or set(graph.nodes)


def check(
    graph: Graph,
    classes: Classes,
    arch: Arch | None = None,
    *,
    resolve: Callable[[str, str], Known | None] | None = None,
    own: OwnFiles = NO_FILES,
) -> Checked:
    """Check a graph: for an image (`arch`), or with `resolve` alone only whether its parts belong together.

    `own` are the files of a person, who may use others than the manifest's.
    """
    live = running(graph, classes)

    def known(folder: str, name: str) -> Known | None:
        found = resolve(folder, name) if resolve else arch.resolve(folder, name) if arch else None
        return found or own.resolve(folder, name)

    followed = follow(graph, known, classes, live)
    findings = [f for f in followed.findings if arch is not None or f.code != "latent-node"]
    if arch is not None:
        findings += policy.problems(graph, arch, classes, live, own.has)
    if classes:
        findings += validation.problems(graph, classes, live)
    else:
        findings.append(Finding(code="classes-unchecked", file=graph.file, what="no ComfyUI was there to ask",
                                should="checked on a host of the project, or while ComfyUI runs"))  # fmt: skip
    return Checked(graph, followed, tuple(dict.fromkeys(findings)))


def differences(editor: Graph, api: Graph) -> list[Finding]:
    """Compare the two formats of a workflow: the same nodes, titles, links and values."""
    found = []
    for name in sorted({*editor.nodes, *api.nodes}):
        one, other = editor.nodes.get(name), api.nodes.get(name)
        if one is None or other is None:
            there, file = (other, editor.file) if one is None else (one, api.file)
            assert there is not None
            found.append(_differ(file, name, there.title, "", "not there", f"a {there.type}, as in the other format"))
            continue
        if one.type != other.type:
            found.append(_differ(api.file, name, other.title, "", other.type, one.type))
        if one.title != other.title:
            found.append(_differ(api.file, name, other.title, "title", repr(other.title), repr(one.title)))
        for key in sorted({*one.inputs, *other.inputs}):
            first, second = (_comparable(node.inputs.get(key)) for node in (one, other))
            if first != second:
                found.append(_differ(api.file, name, other.title, key, second, first))
    return found


def _differ(file: str, node: str, title: str, edge: str, what: str, should: str) -> Finding:
    return Finding(code="formats-differ", file=file, node=shown(node, 60), title=shown(title, 80), edge=edge,
                   what=shown(what), should=f"{shown(should)} as in the other format")  # fmt: skip


def _comparable(value: object) -> str:
    """Give a value so that 1, 1.0 and true are three things: JSON's readers tell them apart."""
    return f"{type(value).__name__} {value!r}"
