"""What a graph for an image must keep to: the manifest's files and family, the locked VAE, Krita's own ends."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from gesso.workflow.arch import is_model_file
from gesso.workflow.dataflow import file_of
from gesso.workflow.families import UNDECIDED
from gesso.workflow.findings import Finding, shown
from gesso.workflow.graph import finding_at, place
from gesso.workflow.rules import rule_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gesso.workflow.arch import Arch
    from gesso.workflow.graph import Graph, Link, Node
    from gesso.workflow.object_info import Classes

OUTPUT = "ETN_KritaOutput"
INSTEAD_OF = {
    "LoadImage": "ETN_KritaCanvas or ETN_KritaImageLayer: what is in Krita, not a file on the server",
    "LoadImageMask": "ETN_KritaSelection or ETN_KritaMaskLayer",
    "LoadImageOutput": "ETN_KritaCanvas or ETN_KritaImageLayer",
    "ETN_LoadImageCache": "ETN_KritaCanvas: the cache is for Krita's own requests",
    "ETN_LoadImageBase64": "ETN_KritaCanvas",
    "ETN_LoadMaskBase64": "ETN_KritaSelection",
}
# The classes that a graph may use to speak with Krita; others with `Krita` in their name exist nowhere.
KRITA = ("ETN_KritaCanvas", OUTPUT, "ETN_KritaSendText", "ETN_KritaSelection", "ETN_KritaImageLayer",
         "ETN_KritaMaskLayer", "ETN_KritaStyle", "ETN_KritaStyleAndPrompt")  # fmt: skip


def problems(
    graph: Graph, arch: Arch, classes: Classes, live: set[str], have: Callable[[str, str], bool]
) -> Iterator[Finding]:
    """Give what breaks the lock; `have` says of a file that the manifest lacks whether it is there all the same."""
    if not any(graph.nodes[name].type == OUTPUT for name in live):
        yield Finding(code="no-output", file=graph.file, what="no node sends a picture to Krita",
                      should=f"an {OUTPUT}, neither muted nor bypassed")  # fmt: skip
    for node in graph.nodes.values():
        yield from _krita(graph, node)
        yield from _files(graph, node, arch, classes, have)
    yield from _vaes(graph, arch, classes, live)


def _krita(graph: Graph, node: Node) -> Iterator[Finding]:
    if node.type in INSTEAD_OF:
        yield finding_at(graph, node, "krita-class", "", f"the class {node.type}", INSTEAD_OF[node.type])
    elif "krita" in node.type.lower() and node.type not in KRITA:
        near = difflib.get_close_matches(node.type.removeprefix("ETN_"), [k.removeprefix("ETN_") for k in KRITA], 1, 0)
        yield finding_at(graph, node, "krita-class", "", f"the class {shown(node.type)}, which does not exist",
                  f"ETN_{near[0]}" if near else "ETN_KritaCanvas")  # fmt: skip


def _named_files(node: Node, classes: Classes) -> Iterator[tuple[str, str, str]]:
    """Give input, folder and name of every model file that a node names, by the recordings and by the rules."""
    seen = set()
    rule = rule_of(node.type)
    for at, take in enumerate(rule.files if rule else ()):
        value = file_of(node, take.name, at)
        if isinstance(value, str):
            seen.add(take.name)
            yield take.name, take.folder, value
    definition = classes.get(node.type)
    for field in definition.inputs.values() if definition else ():
        value = node.inputs.get(field.name)
        if field.name not in seen and isinstance(value, str) and field.folders and value not in (field.options or ()):
            yield field.name, field.folders[0], value


def _files(
    graph: Graph, node: Node, arch: Arch, classes: Classes, have: Callable[[str, str], bool]
) -> Iterator[Finding]:
    for edge, folder, name in _named_files(node, classes):
        if not is_model_file(name) and _is_option(node, edge, name, classes):
            continue
        family = arch.models.get((folder, name))
        if family is None and not have(folder, name):
            near = difflib.get_close_matches(name, arch.names(folder), 1, 0.4)
            should = near[0] if near else ", ".join(arch.names(folder)[:4]) or f"nothing: {arch.name} has no {folder}"
            yield finding_at(
                graph, node, "file-missing", edge, f"{shown(name)}, which the manifest does not have", should
            )
        elif family is not None and family not in {*UNDECIDED, arch.family}:
            yield finding_at(graph, node, "file-family", edge, f"{shown(name)} ({family})", f"of family {arch.family}")


def _is_option(node: Node, edge: str, name: str, classes: Classes) -> bool:
    """Tell a choice that is no file (`none`, `pixel_space`) from a file's name."""
    definition = classes.get(node.type)
    field = definition.inputs.get(edge) if definition else None
    return field is not None and name in (field.options or ())


def _vaes(graph: Graph, arch: Arch, classes: Classes, live: set[str]) -> Iterator[Finding]:
    """Every VAE that anything takes must come from a VAELoader with the locked file; by a switch, too."""
    seen: set[Link] = set()
    for node in (graph.nodes[name] for name in sorted(live)):
        for edge, link in node.links():
            source = graph.nodes.get(link.node)
            if source is not None and link not in seen and _is_loaded_vae(node, edge, source, link.slot, classes):
                seen.add(link)
                yield from _vae(graph, source, node, edge, arch)


def _is_loaded_vae(node: Node, edge: str, source: Node, slot: int, classes: Classes) -> bool:
    """Tell whether an output is a VAE that was made there, and not passed on."""
    rule, definition = rule_of(source.type), classes.get(source.type)
    give = rule.gives[slot] if rule is not None and 0 <= slot < len(rule.gives) else None
    if give is None or give.sources:
        return False  # an unknown class is reported as that
    if give.kind != "?":
        return give.kind == "V"
    typed = definition.outputs[slot] if definition and slot < len(definition.outputs) else ""
    taken = rule_of(node.type)
    return typed == "VAE" or (taken is not None and any(t.kind == "V" and t.matches(edge) for t in taken.takes))


def _vae(graph: Graph, source: Node, user: Node, edge: str, arch: Arch) -> Iterator[Finding]:
    if source.type != "VAELoader":
        yield _not_locked(graph, user, edge, source, arch)
        return
    value = file_of(source, "vae_name", 0)
    if value != arch.vae:
        yield finding_at(graph, source, "vae-lock", "vae_name", shown(value, 80), arch.vae)


def _not_locked(graph: Graph, user: Node, edge: str, source: Node, arch: Arch) -> Finding:
    return finding_at(graph, user, "vae-lock", edge, f"the VAE of {place(source)}, a {shown(source.type)}",
               f"that of a VAELoader with {arch.vae}")  # fmt: skip
