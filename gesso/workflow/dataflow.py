"""Trace families and latent channels from the loaders to the last decode: one fact for each output, by rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from gesso.workflow.facts import ADD_ON, CLIP, CONDITIONING, LATENT, MODEL, VAE, Fact, clash
from gesso.workflow.families import (
    NO_LATENTS,
    TEXT_FAMILIES_BY_FILE,
    UNDECIDED,
    Latents,
    latents_by_name,
    latents_of,
    loader_text_family,
    text_family,
)
from gesso.workflow.findings import Finding, printable
from gesso.workflow.graph import Graph, Link, Node, finding_at, node_label, topological_order
from gesso.workflow.rules import Rule, RuleInput, RuleOutput, rule_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gesso.workflow.object_info import NodeClasses

_MAX_COMPARED = 50  # a node with more inputs than this is compared with the first of them only
TRACKED = {"MODEL", "CLIP", "VAE", "LATENT", "CONDITIONING", "GUIDER", "CONTROL_NET"}


class ModelInfo(NamedTuple):
    """What is known about a model file; `channels` where its header does not reveal a family."""

    family: str
    channels: int | None = None


@dataclass(frozen=True)
class DataflowResult:
    """A fact for each output of each node, and the findings."""

    facts: Mapping[Link, Fact]
    findings: tuple[Finding, ...]


def trace(
    graph: Graph, resolve: Callable[[str, str], ModelInfo | None], classes: NodeClasses, live: set[str]
) -> DataflowResult:
    """Trace the whole graph; report only the `live` nodes: what feeds no output never runs."""
    walker = _Walker(graph, resolve, classes, live)
    sorted_, circular = topological_order(graph)
    for name in sorted_:
        walker.visit(graph.nodes[name])
    for name in sorted(circular & live):
        walker.report(graph.nodes[name], "cycle", "", "it depends on its own output", "free of cycles")
    return DataflowResult(walker.facts, tuple(walker.findings))


class _Walker:
    """Visits each node once, in order."""

    def __init__(
        self, graph: Graph, resolve: Callable[[str, str], ModelInfo | None], classes: NodeClasses, live: set[str]
    ) -> None:
        self.graph, self.resolve, self.classes, self.live = graph, resolve, classes, live
        self.facts: dict[Link, Fact] = {}
        self.findings: list[Finding] = []
        self.used = _used_outputs(graph, live)

    def report(self, node: Node, code: str, edge: str, what: str, should: str) -> None:
        """Add a finding about a live node."""
        if node.id in self.live:
            self.findings.append(finding_at(self.graph, node, code, edge, what, should))

    def visit(self, node: Node) -> None:
        """Compare a node's inputs, then derive its outputs."""
        rule = rule_of(node.type)
        if rule is None:
            self._without_rule(node)
            return
        incoming = self._incoming(node, rule)
        files = self._files(node, rule)
        compared = [(edge, fact) for spec, edge, fact in incoming if spec.compared]
        if any(fact.kind == MODEL for _, fact in compared):  # what is loaded onto a model must be made for it
            add_ons = ((spec, info) for spec, _, info in files if info.family not in UNDECIDED)
            label = node_label(node)
            compared += [(s.name, Fact(ADD_ON, i.family, origin=f"{label} ({s.folder})")) for s, i in add_ons]
        self._compare(node, compared)
        by_name: dict[str, list[Fact]] = {}
        for spec, _, fact in incoming:
            by_name.setdefault(spec.name, []).append(fact)
        for slot, output in enumerate(rule.outputs):
            if (derived := self._output_fact(node, slot, output, by_name, files)) is not None:
                self.facts[Link(node.id, slot)] = derived

    def _without_rule(self, node: Node) -> None:
        """Report a class with tracked inputs or outputs; images and numbers need no rule."""
        inputs = [name for name, link in node.links() if link in self.facts]
        definition = self.classes.get(node.type)
        types = definition.outputs if definition is not None else ()
        outputs = [slot for slot in self.used.get(node.id, {}) if self._tracked(node, slot, types)]
        if inputs or outputs:
            edge = inputs[0] if inputs else f"output {outputs[0]}"
            self.report(
                node, "class-unknown", edge, f"no rule describes what {printable(node.type)} does with it",
                "a class in gesso/workflow/node_rules.py, or reviewed by a person",
            )  # fmt: skip

    def _tracked(self, node: Node, slot: int, types: tuple[str, ...]) -> bool:
        if 0 <= slot < len(types):
            return types[slot] in TRACKED
        return self.used[node.id][slot]

    def _incoming(self, node: Node, rule: Rule) -> list[tuple[RuleInput, str, Fact]]:
        """Return the name and the fact of each connected input."""
        found = []
        for name, link in node.links():
            fact = self.facts.get(link)
            spec = next((spec for spec in rule.inputs if spec.kind and spec.matches(name)), None)
            if fact is not None and spec is not None:
                found.append((spec, name, fact))
        return found

    def _compare(self, node: Node, incoming: list[tuple[str, Fact]]) -> None:
        """Report each input that is incompatible with an earlier one: models first, then in the rule's order."""
        ranked = sorted(incoming, key=lambda pair: pair[1].kind != MODEL)
        for at, (edge, fact) in enumerate(ranked):
            for _, earlier in ranked[: min(at, _MAX_COMPARED)]:
                if (code := clash(earlier, fact)) is not None:
                    self.report(node, code, edge, str(fact), f"for {earlier}")
                    break

    def _files(self, node: Node, rule: Rule) -> list[tuple[RuleInput, str, ModelInfo]]:
        """Return what is known about the files that a node names."""
        found = []
        for at, spec in enumerate(rule.files):
            value = input_value(node, spec.name, at)
            if isinstance(value, str):
                found.append((spec, value, self.resolve(spec.folder, value) or ModelInfo("")))
        return found

    def _output_fact(
        self,
        node: Node,
        slot: int,
        output: RuleOutput,
        by_name: Mapping[str, list[Fact]],
        files: list[tuple[RuleInput, str, ModelInfo]],
    ) -> Fact | None:
        """Derive the fact of an output."""
        sources = [fact for name in output.sources for fact in by_name.get(name, [])]
        if output.channels is not None:
            return Fact(LATENT, latents=Latents("", output.channels), origin=node_label(node), empty=True)
        if output.family:
            return Fact(output.kind, output.family, origin=node_label(node))
        if output.one_of:
            return self._one_of(node, sources)
        if output.sources:
            return self._derived(node, output, sources)
        if output.kind == "?" and slot in self.used.get(node.id, {}):
            self._unknown(node, f"the output of {printable(node.type)} cannot be determined")
        return self._loaded(node, output.kind, files) if output.kind not in {"", "?"} else None

    def _derived(self, node: Node, output: RuleOutput, sources: list[Fact]) -> Fact:
        """Derive an output from its source inputs."""
        first = sources[0] if sources else Fact(output.kind, origin=node_label(node))
        if output.kind == LATENT and first.kind in {MODEL, VAE}:
            return Fact(LATENT, latents=first.latents, origin=f"{node_label(node)}, made with {first.origin}")
        if output.kind == CONDITIONING:
            inner = next((fact.latents for fact in sources if fact.latents.channels is not None), NO_LATENTS)
            return replace(first, kind=CONDITIONING, latents=inner)
        if output.kind == LATENT:  # if any source is not empty, the result is not
            full = next((fact for fact in sources if not fact.empty and fact.known), None)
            return replace(full or first, kind=LATENT)
        return replace(first, kind=output.kind)

    def _one_of(self, node: Node, sources: list[Fact]) -> Fact | None:
        """Derive an output that passes on one of several inputs: known only if all are the same."""
        if not sources:
            return None
        first = sources[0]
        same = all((f.kind, f.family, f.latents) == (first.kind, first.family, first.latents) for f in sources)
        if not same:
            self._unknown(node, "it passes on one of several different inputs")
        return first if same else Fact(first.kind, origin=node_label(node))

    def _unknown(self, node: Node, what: str) -> None:
        self.report(node, "family-unknown", "", what, "something that can be traced")

    def _loaded(self, node: Node, kind: str, files: list[tuple[RuleInput, str, ModelInfo]]) -> Fact:
        """Derive the output of a loader from its files."""
        names = ", ".join(printable(name, 60) for _, name, _ in files)
        origin = f"{node_label(node)} ({names})" if names else node_label(node)
        families = {info.family for _, _, info in files} - UNDECIDED
        family = families.pop() if len(families) == 1 else ""
        channels = files[0][2].channels if files else None
        if kind == CLIP:
            fact = Fact(CLIP, self._text_family(node, text_family(family), len(files)), origin=origin)
        elif kind == ADD_ON:
            fact = Fact(ADD_ON, family, origin=origin)
        else:
            latents = latents_of(family)
            if latents.channels is None:
                latents = Latents("", channels)
            if kind == VAE and names == "pixel_space":
                latents = latents_by_name("pixel")
            fact = Fact(kind, family if kind == MODEL else "", latents, origin)
        if not fact.known and kind in {MODEL, VAE} and self._is_used(node, kind):
            self.report(node, "family-unknown", "", f"the family of {names or 'what it loads'} is unknown",
                        "a file of the manifest, with its family")  # fmt: skip
        return fact

    def _text_family(self, node: Node, by_file: str, at: int) -> str:
        """Return the family of a loader's text encoders; report files of one family loaded as another."""
        by_type = loader_text_family(node.type, text_value(node, "type", at))
        if by_file in TEXT_FAMILIES_BY_FILE:
            return by_file
        if by_type and by_file and by_type != by_file:
            self.report(node, "text-family", "type", f"text encoders for {by_file}, loaded as those of {by_type}",
                        f"loaded as those of {by_file}")  # fmt: skip
        return by_type or by_file

    def _is_used(self, node: Node, kind: str) -> bool:
        rule = rule_of(node.type)
        slots = [slot for slot, output in enumerate(rule.outputs) if output.kind == kind] if rule else []
        return any(slot in self.used.get(node.id, {}) for slot in slots)


def _used_outputs(graph: Graph, live: set[str]) -> dict[str, dict[int, bool]]:
    """Return the outputs that live nodes use, and whether a rule tracks the inputs that use them."""
    found: dict[str, dict[int, bool]] = {}
    for node in graph.nodes.values():
        if node.id not in live:
            continue
        rule = rule_of(node.type)
        for name, link in node.links():
            tracked = rule is not None and any(i.kind not in {"", "*"} and i.matches(name) for i in rule.inputs)
            slots = found.setdefault(link.node, {})
            slots[link.slot] = slots.get(link.slot, False) or tracked
    return found


def input_value(node: Node, name: str, at: int) -> object:
    """Return an input's value by its name, else by its index in the editor's list of values."""
    return node.inputs[name] if name in node.inputs else node.ordered[at] if at < len(node.ordered) else None


def text_value(node: Node, name: str, at: int) -> str:
    """Return an input's value if it is text, else ""."""
    value = input_value(node, name, at)
    return value if isinstance(value, str) else ""


def known_edges(graph: Graph, dataflow: DataflowResult, kinds: Iterable[str]) -> tuple[int, int]:
    """Count the edges of these kinds: the known ones, and all."""
    facts = [dataflow.facts[link] for n in graph.nodes.values() for _, link in n.links() if link in dataflow.facts]
    chosen = [fact for fact in facts if fact.kind in set(kinds)]
    return sum(fact.known for fact in chosen), len(chosen)
