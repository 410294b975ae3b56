"""Follow families and latent channels from the loaders to the last decode: one fact for each output, by rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from gesso.workflow.facts import ADD_ON, CLIP, CONDITIONING, LATENT, MODEL, VAE, Fact, clash
from gesso.workflow.families import (
    NO_LATENTS,
    TEXT_BY_FILE_ALONE,
    UNDECIDED,
    Latents,
    latents_of,
    space,
    text_of,
    text_of_loader,
)
from gesso.workflow.findings import Finding, shown
from gesso.workflow.graph import Graph, Link, Node, finding_at, order, place
from gesso.workflow.rules import Give, Rule, Take, rule_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gesso.workflow.object_info import Classes

_ENOUGH = 50  # a node with more inputs than this is compared with the first of them alone
TRACKED = {"MODEL", "CLIP", "VAE", "LATENT", "CONDITIONING", "GUIDER", "CONTROL_NET"}


class Known(NamedTuple):
    """What is known of a model file; the channels alone where a header told no family."""

    family: str
    channels: int | None = None


@dataclass(frozen=True)
class Followed:
    """What came out: a fact for each output of each node, and what is wrong or unclear on the way."""

    facts: Mapping[Link, Fact]
    findings: tuple[Finding, ...]


def follow(graph: Graph, resolve: Callable[[str, str], Known | None], classes: Classes, live: set[str]) -> Followed:
    """Follow everything; findings are of the `live` nodes alone: what feeds no output never runs."""
    walker = _Walker(graph, resolve, classes, live)
    sorted_, circular = order(graph)
    for name in sorted_:
        walker.visit(graph.nodes[name])
    for name in sorted(circular & live):
        walker.report(graph.nodes[name], "cycle", "", "it waits for its own result", "free of circles")
    return Followed(walker.facts, tuple(walker.findings))


class _Walker:
    """Visits each node once, in order."""

    def __init__(
        self, graph: Graph, resolve: Callable[[str, str], Known | None], classes: Classes, live: set[str]
    ) -> None:
        self.graph, self.resolve, self.classes, self.live = graph, resolve, classes, live
        self.facts: dict[Link, Fact] = {}
        self.findings: list[Finding] = []
        self.wanted = _outputs_in_use(graph, live)

    def report(self, node: Node, code: str, edge: str, what: str, should: str) -> None:
        """Add a finding of a node that runs."""
        if node.id in self.live:
            self.findings.append(finding_at(self.graph, node, code, edge, what, should))

    def visit(self, node: Node) -> None:
        """Compare what comes in, and say what goes out."""
        rule = rule_of(node.type)
        if rule is None:
            self._without_rule(node)
            return
        incoming = self._incoming(node, rule)
        files = self._files(node, rule)
        compared = [(edge, fact) for take, edge, fact in incoming if take.compared]
        if any(fact.kind == MODEL for _, fact in compared):  # what is loaded onto a model must be for it
            named = ((take, known) for take, _, known in files if known.family not in UNDECIDED)
            compared += [(t.name, Fact(ADD_ON, k.family, origin=f"{place(node)} ({t.folder})")) for t, k in named]
        self._compare(node, compared)
        by_name: dict[str, list[Fact]] = {}
        for take, _, fact in incoming:
            by_name.setdefault(take.name, []).append(fact)
        for slot, give in enumerate(rule.gives):
            if (made := self._made(node, slot, give, by_name, files)) is not None:
                self.facts[Link(node.id, slot)] = made

    def _without_rule(self, node: Node) -> None:
        """Report a class that takes or gives something followed here; pictures and numbers need no rule."""
        takes = [name for name, link in node.links() if link in self.facts]
        definition = self.classes.get(node.type)
        outputs = definition.outputs if definition is not None else ()
        gives = [slot for slot in self.wanted.get(node.id, {}) if self._tracked(node, slot, outputs)]
        if takes or gives:
            edge = takes[0] if takes else f"output {gives[0]}"
            self.report(
                node, "class-unknown", edge, f"no rule says what {shown(node.type)} does with it",
                "a class of gesso/workflow/node_rules.py, or looked at by a person",
            )  # fmt: skip

    def _tracked(self, node: Node, slot: int, outputs: tuple[str, ...]) -> bool:
        if 0 <= slot < len(outputs):
            return outputs[slot] in TRACKED
        return self.wanted[node.id][slot]

    def _incoming(self, node: Node, rule: Rule) -> list[tuple[Take, str, Fact]]:
        """Give the fact of each connected input, and the name of the input."""
        found = []
        for name, link in node.links():
            fact = self.facts.get(link)
            take = next((take for take in rule.takes if take.kind and take.matches(name)), None)
            if fact is not None and take is not None:
                found.append((take, name, fact))
        return found

    def _compare(self, node: Node, incoming: list[tuple[str, Fact]]) -> None:
        """Report each input that does not belong to one before it; a model comes first, then by the rule's order."""
        ranked = sorted(incoming, key=lambda pair: pair[1].kind != MODEL)
        for at, (edge, fact) in enumerate(ranked):
            for _, earlier in ranked[: min(at, _ENOUGH)]:
                if (code := clash(earlier, fact)) is not None:
                    self.report(node, code, edge, str(fact), f"for {earlier}")
                    break

    def _files(self, node: Node, rule: Rule) -> list[tuple[Take, str, Known]]:
        """Give what is known of the files that a node names."""
        found = []
        for at, take in enumerate(rule.files):
            value = file_of(node, take.name, at)
            if isinstance(value, str):
                found.append((take, value, self.resolve(take.folder, value) or Known("")))
        return found

    def _made(
        self, node: Node, slot: int, give: Give, by_name: Mapping[str, list[Fact]], files: list[tuple[Take, str, Known]]
    ) -> Fact | None:
        """Say what an output is."""
        sources = [fact for name in give.sources for fact in by_name.get(name, [])]
        if give.channels is not None:
            return Fact(LATENT, latents=Latents("", give.channels), origin=place(node), empty=True)
        if give.family:
            return Fact(give.kind, give.family, origin=place(node))
        if give.either:
            return self._either(node, sources)
        if give.sources:
            return self._passed(node, give, sources)
        if give.kind == "?" and slot in self.wanted.get(node.id, {}):
            self._unclear(node, f"what {shown(node.type)} makes cannot be told")
        return self._loaded(node, give.kind, files) if give.kind not in {"", "?"} else None

    def _passed(self, node: Node, give: Give, sources: list[Fact]) -> Fact:
        """Make an output from the inputs that it stems from."""
        first = sources[0] if sources else Fact(give.kind, origin=place(node))
        if give.kind == LATENT and first.kind in {MODEL, VAE}:
            return Fact(LATENT, latents=first.latents, origin=f"{place(node)}, made with {first.origin}")
        if give.kind == CONDITIONING:
            inner = next((fact.latents for fact in sources if fact.latents.channels is not None), NO_LATENTS)
            return replace(first, kind=CONDITIONING, latents=inner)
        if give.kind == LATENT:  # as soon as one of them holds something, the result does
            full = next((fact for fact in sources if not fact.empty and fact.known), None)
            return replace(full or first, kind=LATENT)
        return replace(first, kind=give.kind)

    def _either(self, node: Node, sources: list[Fact]) -> Fact | None:
        """Take one of several: known only where all are the same."""
        if not sources:
            return None
        first = sources[0]
        same = all((f.kind, f.family, f.latents) == (first.kind, first.family, first.latents) for f in sources)
        if not same:
            self._unclear(node, "one of several different things goes on from here")
        return first if same else Fact(first.kind, origin=place(node))

    def _unclear(self, node: Node, what: str) -> None:
        self.report(node, "family-unknown", "", what, "something that can be followed")

    def _loaded(self, node: Node, kind: str, files: list[tuple[Take, str, Known]]) -> Fact:
        """Say what a loader makes of its files."""
        names = ", ".join(shown(name, 60) for _, name, _ in files)
        origin = f"{place(node)} ({names})" if names else place(node)
        families = {known.family for _, _, known in files} - UNDECIDED
        family = families.pop() if len(families) == 1 else ""
        channels = files[0][2].channels if files else None
        if kind == CLIP:
            fact = Fact(CLIP, self._text(node, text_of(family), len(files)), origin=origin)
        elif kind == ADD_ON:
            fact = Fact(ADD_ON, family, origin=origin)
        else:
            latents = latents_of(family)
            if latents.channels is None:
                latents = Latents("", channels)
            if kind == VAE and names == "pixel_space":
                latents = space("pixel")
            fact = Fact(kind, family if kind == MODEL else "", latents, origin)
        if not fact.known and kind in {MODEL, VAE} and self._is_wanted(node, kind):
            self.report(node, "family-unknown", "", f"nothing tells the family of {names or 'what it loads'}",
                        "a file of the manifest, with its family")  # fmt: skip
        return fact

    def _text(self, node: Node, by_file: str, at: int) -> str:
        """Say whose text encoders a loader makes; files of one family under the name of another are wrong."""
        by_type = text_of_loader(node.type, text_value(node, "type", at))
        if by_file in TEXT_BY_FILE_ALONE:
            return by_file
        if by_type and by_file and by_type != by_file:
            self.report(node, "text-family", "type", f"text encoders for {by_file}, loaded as those of {by_type}",
                        f"loaded as those of {by_file}")  # fmt: skip
        return by_type or by_file

    def _is_wanted(self, node: Node, kind: str) -> bool:
        rule = rule_of(node.type)
        slots = [slot for slot, give in enumerate(rule.gives) if give.kind == kind] if rule else []
        return any(slot in self.wanted.get(node.id, {}) for slot in slots)


def _outputs_in_use(graph: Graph, live: set[str]) -> dict[str, dict[int, bool]]:
    """Give the outputs that somebody takes, and whether a rule says that it matters what comes out of them."""
    found: dict[str, dict[int, bool]] = {}
    for node in graph.nodes.values():
        if node.id not in live:
            continue
        rule = rule_of(node.type)
        for name, link in node.links():
            matters = rule is not None and any(t.kind not in {"", "*"} and t.matches(name) for t in rule.takes)
            slots = found.setdefault(link.node, {})
            slots[link.slot] = slots.get(link.slot, False) or matters
    return found


def file_of(node: Node, name: str, at: int) -> object:
    """Give a loader's file: by its input's name, else by the order in which the editor lists values."""
    return node.inputs[name] if name in node.inputs else node.ordered[at] if at < len(node.ordered) else None


def text_value(node: Node, name: str, at: int) -> str:
    """Give a text among a loader's values; nothing where it is none."""
    value = file_of(node, name, at)
    return value if isinstance(value, str) else ""


def known_edges(graph: Graph, followed: Followed, kinds: Iterable[str]) -> tuple[int, int]:
    """Count the edges of these kinds: those that are known, and all."""
    facts = [followed.facts[link] for n in graph.nodes.values() for _, link in n.links() if link in followed.facts]
    chosen = [fact for fact in facts if fact.kind in set(kinds)]
    return sum(fact.known for fact in chosen), len(chosen)
