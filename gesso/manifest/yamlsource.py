"""Strict YAML in which every value has its file and line.

`no`, `3.10` and `22:22` are strings, keys are unique, and anchors, tags and further documents are refused. Only
`true`, `false`, `null` and plain decimal integers are not strings (YAML 1.2's core schema, without floats, which no
manifest needs).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_BYTES = 1 << 20
MAX_DEPTH = 30
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})\Z")
_FORBIDDEN_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters and surrogates
_KEYWORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, order=True)
class Mark:
    """A position in a file; lines and columns count from 1, as in editors."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One problem: position, key, and a message with what is allowed."""

    mark: Mark
    key: str
    message: str

    def __str__(self) -> str:
        text = f"{self.mark}: {self.key}: {self.message}" if self.key else f"{self.mark}: {self.message}"
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)  # always one line


@dataclass(frozen=True)
class Scalar:
    """A leaf: string, integer, boolean or null."""

    value: str | int | bool | None
    mark: Mark


@dataclass(frozen=True)
class Listing:
    """A sequence."""

    items: tuple[Tree, ...]
    mark: Mark


@dataclass(frozen=True)
class Mapping:
    """A mapping; `keys` holds the position of each key."""

    items: dict[str, Tree]
    keys: dict[str, Mark]
    mark: Mark


Tree = Scalar | Listing | Mapping


def plain(tree: Tree) -> Any:
    """Convert a tree to dicts, lists and scalars, without marks."""
    match tree:
        case Mapping():
            return {key: plain(value) for key, value in tree.items.items()}
        case Listing():
            return [plain(item) for item in tree.items]
        case Scalar():
            return tree.value


def locate(tree: Tree, path: tuple[str | int, ...]) -> Mark:
    """Return the mark of the value at `path`, or of its nearest existing parent."""
    mark = tree.mark
    for step in path:
        if isinstance(tree, Mapping) and step in tree.items:
            mark, tree = tree.keys[str(step)], tree.items[str(step)]
        elif isinstance(tree, Listing) and isinstance(step, int) and 0 <= step < len(tree.items):
            tree = tree.items[step]
            mark = tree.mark
        else:
            break
    return mark


def name_of(item: Tree) -> str | None:
    """Return the value of `name` if it is text."""
    name = item.items.get("name") if isinstance(item, Mapping) else None
    return name.value if isinstance(name, Scalar) and isinstance(name.value, str) else None


def read(path: Path, *, shown_as: str | None = None) -> tuple[Tree | None, list[Problem]]:
    """Read one file; problems are returned, not raised, so that those of all files are reported together."""
    name = shown_as or str(path)
    start = Mark(name, 1)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None, [Problem(start, "", "no such file")]
    except OSError as error:
        return None, [Problem(start, "", f"cannot be read: {error.strerror}")]
    return parse(data, name)


def parse(data: bytes, name: str) -> tuple[Tree | None, list[Problem]]:
    """Parse one document of strict YAML.

    The tree is None if nothing could be parsed.
    """
    tree, problems = _parse(data, name)
    return tree, list(problems)


@functools.lru_cache(maxsize=16)  # all manifests extend the same file, and a check reads each several times
def _parse(data: bytes, name: str) -> tuple[Tree | None, Sequence[Problem]]:  # noqa: PLR0911 - one return for each fault
    start = Mark(name, 1)
    if len(data) > MAX_BYTES:
        return None, [Problem(start, "", f"{len(data):,} bytes; a manifest has at most {MAX_BYTES:,}")]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return None, [Problem(Mark(name, line), "", f"not UTF-8 (byte {error.start}); save the file as UTF-8")]
    loader: Any = None
    try:
        loader = _UntypedLoader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        marks = (error.problem_mark, error.context_mark)
        mark = next((m for m in (reversed(marks) if _unclosed(error) else marks) if m), None)
        line = mark.line + 1 if mark else 1
        return None, [Problem(Mark(name, line), "", _message(error))]
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not YAML: the character U+{ord(text[error.position]):04X} is not allowed"
        return None, [Problem(Mark(name, line), "", message)]
    except RecursionError:
        line = loader.marks[-1].line + 1 if loader.marks else 1  # where the deepest item begins
        return None, [Problem(Mark(name, line), "", f"nested deeper than {MAX_DEPTH} levels")]
    except (ValueError, OverflowError):  # PyYAML passes its input to chr() and int() unchecked
        return None, [Problem(Mark(name, loader.line + 1), "", "not YAML: an escape or a number out of range")]
    if node is None:
        return None, [Problem(start, "", "the file is empty")]
    problems: list[Problem] = []
    return _convert(node, name, "", 0, problems), problems


def _unclosed(error: yaml.MarkedYAMLError) -> bool:
    """Check whether the file ended inside a bracket or quote: the position to report is its beginning."""
    return "stream end" in str(error.problem) or "end of stream" in str(error.problem)


_UNCLOSED = "not YAML: a bracket or quote is opened here and never closed"
_PYYAML_MESSAGES = {  # part of PyYAML's message -> the message that is shown
    "but found another document": "a second document (---) is not allowed; one file is one manifest",
    "node content, but found '<stream end>'": "not YAML: the file ends within brackets",
    "stream end": _UNCLOSED,
    "end of stream": _UNCLOSED,
    "'\\t'": "not YAML: a tab; indent with spaces",
    "expected <block end>": "not YAML: the indentation does not fit the lines above",
    "mapping values": "not YAML: a key is not allowed here; fix the indentation, or quote a value that contains `: `",
}


def _message(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem or error.context)
    if isinstance(error, _NotAllowedError):
        return problem
    return next((message for part, message in _PYYAML_MESSAGES.items() if part in problem), f"not YAML: {problem}")


class _NotAllowedError(yaml.composer.ComposerError):
    """Valid YAML that a manifest must not use."""


class _UntypedLoader(yaml.SafeLoader):
    """Composes nodes without resolving types: `_scalar` does that."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:  # noqa: ARG002 - the signature is PyYAML's
        return {yaml.ScalarNode: "!s", yaml.SequenceNode: "!q", yaml.MappingNode: "!m"}[kind]

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            message = (
                "anchors and aliases (& and *) are not allowed; write it out, or quote a value that begins with one"
            )
            raise _NotAllowedError(None, None, message, event.start_mark)
        if getattr(event, "tag", None) is not None:
            message = "tags (!) are not allowed; remove the tag, or quote a value that begins with !"
            raise _NotAllowedError(None, None, message, event.start_mark)
        return super().compose_node(parent, index)


def _convert(node: yaml.Node, name: str, key: str, depth: int, problems: list[Problem]) -> Tree:
    mark = Mark(name, node.start_mark.line + 1, node.start_mark.column + 1)
    if depth > MAX_DEPTH:
        problems.append(Problem(mark, key, f"nested deeper than {MAX_DEPTH} levels"))
        return Scalar(None, mark)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, name, key, depth, problems)
    if isinstance(node, yaml.SequenceNode):
        items = (_convert(n, name, f"{key}[{i}]", depth + 1, problems) for i, n in enumerate(node.value))
        return Listing(tuple(items), mark)
    if match := _FORBIDDEN_CHARACTERS.search(node.value):
        problems.append(Problem(mark, key, f"the character U+{ord(match[0]):04X} is not allowed"))
        node.value = _FORBIDDEN_CHARACTERS.sub("?", node.value)
    return Scalar(_scalar(node), mark)


def _mapping(node: yaml.MappingNode, name: str, key: str, depth: int, problems: list[Problem]) -> Mapping:
    items: dict[str, Tree] = {}
    keys: dict[str, Mark] = {}
    for key_node, value_node in node.value:
        mark = Mark(name, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if (
            not isinstance(key_node, yaml.ScalarNode)
            or not key_node.value
            or _FORBIDDEN_CHARACTERS.search(key_node.value)
        ):
            problems.append(Problem(mark, key, "a key must be plain text"))
            continue
        word = str(key_node.value)
        path = f"{key}.{word}" if key else word
        if word in keys:
            problems.append(Problem(mark, path, f"duplicate key; already used in line {keys[word].line}"))
            continue
        keys[word] = mark
        items[word] = _convert(value_node, name, path, depth + 1, problems)
    return Mapping(items, keys, Mark(name, node.start_mark.line + 1, node.start_mark.column + 1))


def _scalar(node: yaml.Node) -> str | int | bool | None:
    value = str(node.value)
    if getattr(node, "style", None) is not None:  # quoted or a block: always a string
        return value
    if value in _KEYWORDS:
        return _KEYWORDS[value]
    return int(value) if _INTEGER.match(value) else value
