"""Parser for the rules in node_rules.py: a class's inputs, which of them must agree, and what its outputs are."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from gesso.workflow.node_rules import RULES


@dataclass(frozen=True)
class RuleInput:
    """An input that carries a model, text encoders, a prompt, a VAE or latents; or the name of a file."""

    name: str
    kind: str
    optional: bool = False
    compared: bool = True
    folder: str = ""

    def matches(self, name: str) -> bool:
        """Whether this describes the node's input `name`; `latents.*` describes many."""
        return name.startswith(self.name[:-1]) if self.name.endswith("*") else name == self.name


@dataclass(frozen=True)
class RuleOutput:
    """An output: its kind, and the inputs that it is derived from (none: from files)."""

    kind: str
    sources: tuple[str, ...] = ()
    one_of: bool = False
    channels: int | None = None
    family: str = ""


@dataclass(frozen=True)
class Rule:
    """The rule of one class."""

    inputs: tuple[RuleInput, ...]
    outputs: tuple[RuleOutput, ...]

    @property
    def files(self) -> tuple[RuleInput, ...]:
        """The inputs that name files."""
        return tuple(item for item in self.inputs if item.folder)


@functools.cache
def rule_of(name: str) -> Rule | None:
    """Return the rule of a class; None for a class that the table does not have."""
    text = RULES.get(name)
    return None if text is None else parse(text)


def parse(text: str) -> Rule:
    """Parse one rule in the notation of node_rules.py."""
    left, _, right = text.partition("->")
    return Rule(tuple(map(_parse_input, left.split())), tuple(map(_parse_output, right.split())))


def _parse_input(word: str) -> RuleInput:
    match = re.fullmatch(r"(!?)([\w.*-]+)(\??):(@?)([\w*]+)", word)
    assert match, word
    independent, name, optional, at, kind = match.groups()
    return RuleInput(name, "" if at else kind, bool(optional), not independent and not at, kind if at else "")


def _parse_output(word: str) -> RuleOutput:
    if word == "-":
        return RuleOutput("")
    if match := re.fullmatch(r"L(\d+)", word):
        return RuleOutput("L", channels=int(match[1]))
    if ":" in word:
        kind, _, family = word.partition(":")
        return RuleOutput(kind, family=family)
    kind, _, sources = word.partition("=")
    return RuleOutput(kind, tuple(re.split(r"[+|]", sources)) if sources else (), one_of="|" in sources)
