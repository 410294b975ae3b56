"""Rules for graphs that run in an image: the manifest's files and family, the locked VAE, Krita's input and output."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from gesso.workflow.arch import is_model_file
from gesso.workflow.dataflow import input_value
from gesso.workflow.families import UNDECIDED
from gesso.workflow.findings import Finding, printable
from gesso.workflow.graph import finding_at, node_label
from gesso.workflow.rules import rule_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gesso.workflow.arch import Arch
    from gesso.workflow.graph import Graph, Link, Node
    from gesso.workflow.object_info import NodeClasses

KRITA_OUTPUT = "ETN_KritaOutput"
REPLACEMENTS = {
    "LoadImage": "ETN_KritaCanvas or ETN_KritaImageLayer: the image in Krita, not a file on the server",
    "LoadImageMask": "ETN_KritaSelection or ETN_KritaMaskLayer",
    "LoadImageOutput": "ETN_KritaCanvas or ETN_KritaImageLayer",
    "ETN_LoadImageCache": "ETN_KritaCanvas: the cache is for Krita's own requests",
    "ETN_LoadImageBase64": "ETN_KritaCanvas",
    "ETN_LoadMaskBase64": "ETN_KritaSelection",
}
# The classes with which a graph may exchange data with Krita; no others with `Krita` in their name exist.
KRITA_CLASSES = ("ETN_KritaCanvas", KRITA_OUTPUT, "ETN_KritaSendText", "ETN_KritaSelection", "ETN_KritaImageLayer",
         "ETN_KritaMaskLayer", "ETN_KritaStyle", "ETN_KritaStyleAndPrompt")  # fmt: skip


def problems(
    graph: Graph, arch: Arch, classes: NodeClasses, live: set[str], is_user_model: Callable[[str, str], bool]
) -> Iterator[Finding]:
    """Yield violations; `is_user_model` allows files that are not in the manifest."""
    if not any(graph.nodes[name].type == KRITA_OUTPUT for name in live):
        yield Finding(code="no-output", file=graph.file, what="no node sends an image to Krita",
                      should=f"an {KRITA_OUTPUT}, neither muted nor bypassed")  # fmt: skip
    for node in graph.nodes.values():
        yield from _krita(graph, node)
        yield from _files(graph, node, arch, classes, is_user_model)
    yield from _vaes(graph, arch, classes, live)


def _krita(graph: Graph, node: Node) -> Iterator[Finding]:
    if node.type in REPLACEMENTS:
        yield finding_at(graph, node, "krita-class", "", f"the class {node.type}", REPLACEMENTS[node.type])
    elif "krita" in node.type.lower() and node.type not in KRITA_CLASSES:
        near = difflib.get_close_matches(
            node.type.removeprefix("ETN_"), [k.removeprefix("ETN_") for k in KRITA_CLASSES], 1, 0
        )
        yield finding_at(graph, node, "krita-class", "", f"the class {printable(node.type)}, which does not exist",
                  f"ETN_{near[0]}" if near else "ETN_KritaCanvas")  # fmt: skip


def _named_files(node: Node, classes: NodeClasses) -> Iterator[tuple[str, str, str]]:
    """Yield input, folder and name of every model file that a node names, by the rules and the definitions."""
    seen = set()
    rule = rule_of(node.type)
    for at, spec in enumerate(rule.files if rule else ()):
        value = input_value(node, spec.name, at)
        if isinstance(value, str):
            seen.add(spec.name)
            yield spec.name, spec.folder, value
    definition = classes.get(node.type)
    for field in definition.inputs.values() if definition else ():
        value = node.inputs.get(field.name)
        if field.name not in seen and isinstance(value, str) and field.folders and value not in (field.options or ()):
            yield field.name, field.folders[0], value


def _files(
    graph: Graph, node: Node, arch: Arch, classes: NodeClasses, is_user_model: Callable[[str, str], bool]
) -> Iterator[Finding]:
    for edge, folder, name in _named_files(node, classes):
        if not is_model_file(name) and _is_option(node, edge, name, classes):
            continue
        family = arch.models.get((folder, name))
        if family is None and not is_user_model(folder, name):
            near = difflib.get_close_matches(name, arch.names(folder), 1, 0.4)
            should = near[0] if near else ", ".join(arch.names(folder)[:4]) or f"nothing: {arch.name} has no {folder}"
            yield finding_at(
                graph, node, "file-missing", edge, f"{printable(name)}, which the manifest does not have", should
            )
        elif family is not None and family not in {*UNDECIDED, arch.family}:
            yield finding_at(
                graph, node, "file-family", edge, f"{printable(name)} ({family})", f"of family {arch.family}"
            )


def _is_option(node: Node, edge: str, name: str, classes: NodeClasses) -> bool:
    """Check whether a value is an option that is no file (`none`, `pixel_space`)."""
    definition = classes.get(node.type)
    field = definition.inputs.get(edge) if definition else None
    return field is not None and name in (field.options or ())


def _vaes(graph: Graph, arch: Arch, classes: NodeClasses, live: set[str]) -> Iterator[Finding]:
    """Require that every VAE in use comes from a VAELoader with the locked file, also through a switch."""
    seen: set[Link] = set()
    for node in (graph.nodes[name] for name in sorted(live)):
        for edge, link in node.links():
            source = graph.nodes.get(link.node)
            if source is not None and link not in seen and _is_loaded_vae(node, edge, source, link.slot, classes):
                seen.add(link)
                yield from _vae(graph, source, node, edge, arch)


def _is_loaded_vae(node: Node, edge: str, source: Node, slot: int, classes: NodeClasses) -> bool:
    """Check whether an output is a VAE that the node loads itself, and does not pass on."""
    rule, definition = rule_of(source.type), classes.get(source.type)
    output = rule.outputs[slot] if rule is not None and 0 <= slot < len(rule.outputs) else None
    if output is None or output.sources:
        return False  # an unknown class is reported as class-unknown
    if output.kind != "?":
        return output.kind == "V"
    typed = definition.outputs[slot] if definition and slot < len(definition.outputs) else ""
    user = rule_of(node.type)
    return typed == "VAE" or (user is not None and any(i.kind == "V" and i.matches(edge) for i in user.inputs))


def _vae(graph: Graph, source: Node, user: Node, edge: str, arch: Arch) -> Iterator[Finding]:
    if source.type != "VAELoader":
        yield _not_locked(graph, user, edge, source, arch)
        return
    value = input_value(source, "vae_name", 0)
    if value != arch.vae:
        yield finding_at(graph, source, "vae-lock", "vae_name", printable(value, 80), arch.vae)


def _not_locked(graph: Graph, user: Node, edge: str, source: Node, arch: Arch) -> Finding:
    return finding_at(graph, user, "vae-lock", edge, f"the VAE of {node_label(source)}, a {printable(source.type)}",
               f"that of a VAELoader with {arch.vae}")  # fmt: skip
