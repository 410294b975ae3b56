"""Strict YAML whose every value knows its file and line.

YAML as people expect it: `no`, `3.10` and `22:22` are strings, a key stands once, and there are no anchors, tags or
second documents. Only `true`, `false`, `null` and plain decimal integers are anything but strings (YAML 1.2's core
schema, less floats, which no manifest needs).
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
_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters and halves of characters
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, order=True)
class Mark:
    """A place in a file; lines and columns count from 1, as editors do."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, under which key, what it is and what is allowed."""

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
    """A mapping; `keys` holds where each key itself stands."""

    items: dict[str, Tree]
    keys: dict[str, Mark]
    mark: Mark


Tree = Scalar | Listing | Mapping


def plain(tree: Tree) -> Any:
    """Give the tree as dicts, lists and scalars, without its marks."""
    match tree:
        case Mapping():
            return {key: plain(value) for key, value in tree.items.items()}
        case Listing():
            return [plain(item) for item in tree.items]
        case Scalar():
            return tree.value


def locate(tree: Tree, path: tuple[str | int, ...]) -> Mark:
    """Give the mark of the value at `path`, or of the nearest thing above it that exists."""
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
    """Give what stands under `name`, where that is a text."""
    name = item.items.get("name") if isinstance(item, Mapping) else None
    return name.value if isinstance(name, Scalar) and isinstance(name.value, str) else None


def read(path: Path, *, shown_as: str | None = None) -> tuple[Tree | None, list[Problem]]:
    """Read one file; what is wrong with it is given back, not raised: other files have problems too."""
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

    The tree is None where nothing of it could be understood.
    """
    tree, problems = _parse(data, name)
    return tree, list(problems)


@functools.lru_cache(maxsize=16)  # all manifests extend the same file, and a check looks at each several times
def _parse(data: bytes, name: str) -> tuple[Tree | None, Sequence[Problem]]:  # noqa: PLR0911 - a way out for each fault
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
        loader = _AllStrings(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        marks = (error.problem_mark, error.context_mark)
        mark = next((m for m in (reversed(marks) if _unclosed(error) else marks) if m), None)
        line = mark.line + 1 if mark else 1
        return None, [Problem(Mark(name, line), "", _say(error))]
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not YAML: the character U+{ord(text[error.position]):04X} is not allowed"
        return None, [Problem(Mark(name, line), "", message)]
    except RecursionError:
        line = loader.marks[-1].line + 1 if loader.marks else 1  # where the deepest thing begins
        return None, [Problem(Mark(name, line), "", f"nested deeper than {MAX_DEPTH} levels")]
    except (ValueError, OverflowError):  # PyYAML gives what it read to chr() and int() as it is
        return None, [Problem(Mark(name, loader.line + 1), "", "not YAML: an escape or a number out of range")]
    if node is None:
        return None, [Problem(start, "", "the file is empty")]
    problems: list[Problem] = []
    return _convert(node, name, "", 0, problems), problems


def _unclosed(error: yaml.MarkedYAMLError) -> bool:
    """Tell whether the file ended within something: the place to mend is where that begins."""
    return "stream end" in str(error.problem) or "end of stream" in str(error.problem)


_UNCLOSED = "not YAML: a bracket or quote is opened here and never closed"
_SAID = {  # what PyYAML says, and what a person can do about it
    "but found another document": "a second document (---) is not allowed; one file is one manifest",
    "node content, but found '<stream end>'": "not YAML: the file ends within brackets",
    "stream end": _UNCLOSED,
    "end of stream": _UNCLOSED,
    "'\\t'": "not YAML: a tab; indent with spaces",
    "expected <block end>": "not YAML: the indentation does not fit the lines above",
    "mapping values": "not YAML: no key can stand here; mend the indentation, or quote a value that holds `: `",
}


def _say(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem or error.context)
    if isinstance(error, _NotAllowed):
        return problem
    return next((said for part, said in _SAID.items() if part in problem), f"not YAML: {problem}")


class _NotAllowed(yaml.composer.ComposerError):
    """YAML, but none that a manifest may use."""


class _AllStrings(yaml.SafeLoader):
    """Composes nodes and resolves none: types are decided in `_scalar`."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:  # noqa: ARG002 - the signature is PyYAML's
        return {yaml.ScalarNode: "!s", yaml.SequenceNode: "!q", yaml.MappingNode: "!m"}[kind]

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            message = "anchors and aliases (& and *) are not allowed; write it out, or quote a value that begins so"
            raise _NotAllowed(None, None, message, event.start_mark)
        if getattr(event, "tag", None) is not None:
            message = "tags (!) are not allowed; leave the tag out, or quote a value that begins so"
            raise _NotAllowed(None, None, message, event.start_mark)
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
    if odd := _ODD.search(node.value):
        problems.append(Problem(mark, key, f"the character U+{ord(odd[0]):04X} is not allowed"))
        node.value = _ODD.sub("?", node.value)
    return Scalar(_scalar(node), mark)


def _mapping(node: yaml.MappingNode, name: str, key: str, depth: int, problems: list[Problem]) -> Mapping:
    items: dict[str, Tree] = {}
    keys: dict[str, Mark] = {}
    for key_node, value_node in node.value:
        mark = Mark(name, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if not isinstance(key_node, yaml.ScalarNode) or not key_node.value or _ODD.search(key_node.value):
            problems.append(Problem(mark, key, "a key must be a word"))
            continue
        word = str(key_node.value)
        path = f"{key}.{word}" if key else word
        if word in keys:
            problems.append(Problem(mark, path, f"duplicate key; it stands in line {keys[word].line} already"))
            continue
        keys[word] = mark
        items[word] = _convert(value_node, name, path, depth + 1, problems)
    return Mapping(items, keys, Mark(name, node.start_mark.line + 1, node.start_mark.column + 1))


def _scalar(node: yaml.Node) -> str | int | bool | None:
    value = str(node.value)
    if getattr(node, "style", None) is not None:  # quoted or a block: a string, whatever is in it
        return value
    if value in _WORDS:
        return _WORDS[value]
    return int(value) if _INTEGER.match(value) else value
