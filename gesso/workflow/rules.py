"""The rules of nodes.py, read: what a class takes in, what must agree, and what each of its outputs is."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from gesso.workflow.node_rules import RULES


@dataclass(frozen=True)
class Take:
    """An input that carries a model, text encoders, a prompt, a VAE or latents; or the name of a file."""

    name: str
    kind: str
    optional: bool = False
    compared: bool = True
    folder: str = ""

    def matches(self, name: str) -> bool:
        """Whether an input of a node is this one; `latents.*` is many."""
        return name.startswith(self.name[:-1]) if self.name.endswith("*") else name == self.name


@dataclass(frozen=True)
class Give:
    """An output: its kind, and the inputs that it is made from (none: from files)."""

    kind: str
    sources: tuple[str, ...] = ()
    either: bool = False
    channels: int | None = None
    family: str = ""


@dataclass(frozen=True)
class Rule:
    """One class."""

    takes: tuple[Take, ...]
    gives: tuple[Give, ...]

    @property
    def files(self) -> tuple[Take, ...]:
        """The inputs that name files."""
        return tuple(take for take in self.takes if take.folder)


@functools.cache
def rule_of(name: str) -> Rule | None:
    """Give the rule of a class; None for a class that the table does not have."""
    text = RULES.get(name)
    return None if text is None else parse(text)


def parse(text: str) -> Rule:
    """Read one rule as nodes.py writes it."""
    left, _, right = text.partition("->")
    return Rule(tuple(map(_take, left.split())), tuple(map(_give, right.split())))


def _take(word: str) -> Take:
    match = re.fullmatch(r"(!?)([\w.*-]+)(\??):(@?)([\w*]+)", word)
    assert match, word
    free, name, optional, at, kind = match.groups()
    return Take(name, "" if at else kind, bool(optional), not free and not at, kind if at else "")


def _give(word: str) -> Give:
    if word == "-":
        return Give("")
    if match := re.fullmatch(r"L(\d+)", word):
        return Give("L", channels=int(match[1]))
    if ":" in word:
        kind, _, family = word.partition(":")
        return Give(kind, family=family)
    kind, _, sources = word.partition("=")
    return Give(kind, tuple(re.split(r"[+|]", sources)) if sources else (), either="|" in sources)
