"""Strict YAML: scalar types, positions, refused input, and that no input raises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gesso.manifest.yamlsource import (
    MAX_BYTES,
    MAX_DEPTH,
    Listing,
    Mapping,
    Mark,
    Problem,
    Scalar,
    Tree,
    locate,
    parse,
    plain,
    read,
)

if TYPE_CHECKING:
    from pathlib import Path


def tree_of(text: str) -> Tree:
    tree, problems = parse(text.encode(), "f.yaml")
    assert problems == []
    assert tree is not None
    return tree


def problems_of(data: str | bytes) -> list[str]:
    _, problems = parse(data.encode() if isinstance(data, str) else data, "f.yaml")
    return [str(problem) for problem in problems]


# -- scalars ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("no", "No", "yes", "on", "off", "y", "n", "True", "TRUE", "False", "Null", "NULL", "none"),
        *(
            "3.10",
            "1e3",
            "1.0",
            ".5",
            ".inf",
            ".nan",
            "0x10",
            "0o17",
            "0b1",
            "010",
            "00",
            "+1",
            "1_000",
            "1.2.3",
        ),
        *("22:22", "1:2:3", "2026-01-01", "2026-01-01T00:00:00Z", "=", "<<", "~x", "--"),
        "1234567890123456789",
    ],
)
def test_scalar_stays_text(text: str) -> None:
    assert plain(tree_of(f"[{text}]")) == [text]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("7", 7),
        ("-3", -3),
        ("335304388", 335304388),
        ("999999999999999999", 999999999999999999),
    ],
)
def test_scalar_has_a_type(text: str, value: object) -> None:
    found = plain(tree_of(f"key: {text}\n"))["key"]

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["true", "false", "null", "~", "", "1", "-3"])
@pytest.mark.parametrize("shape", ["'{}'", '"{}"', "|-\n  {}", ">-\n  {}"])
def test_quoted_scalar_and_block_are_text(text: str, shape: str) -> None:
    assert plain(tree_of(f"key: {shape.format(text)}\n")) == {"key": text}


def test_keys_are_text() -> None:
    assert plain(tree_of("1: a\ntrue: b\nno: c\n~: d\n3.10: e\n")) == {
        "1": "a",
        "true": "b",
        "no": "c",
        "~": "d",
        "3.10": "e",
    }


def test_byte_order_mark_and_line_ends_of_windows_do_not_matter() -> None:
    assert parse(b"\xef\xbb\xbfa: no\r\nb:\r\n  - 1\r\n", "f")[1] == []
    assert plain(tree_of("\ufeffa: no\r\nb:\r\n  - 1\r\n")) == {"a": "no", "b": [1]}


# -- marks --------------------------------------------------------------------------------------------------

NESTED = """\
# a comment, and an empty line

top: text # behind

models:
  # between
  - name: a
    sources:
      - one

      - two
  - {name: b, sources: [three]}
last: |
  lines
"""


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        ((), 3, 1),
        (("top",), 3, 1),
        (("models",), 5, 1),
        (("models", 0), 7, 5),
        (("models", 0, "name"), 7, 5),
        (("models", 0, "sources"), 8, 5),
        (("models", 0, "sources", 0), 9, 9),
        (("models", 0, "sources", 1), 11, 9),
        (("models", 1), 12, 5),
        (("models", 1, "sources", 0), 12, 25),
        (("last",), 13, 1),
        # a missing path resolves to its nearest existing parent
        (("nothing",), 3, 1),
        (("models", 7), 5, 1),
        (("models", -1), 5, 1),
        (("models", "name"), 5, 1),
        (("models", 0, "sha256"), 7, 5),
        (("top", "deeper", 0), 3, 1),
        ((0,), 3, 1),
    ],
)
def test_locate_gives_line_and_column(path: tuple[str | int, ...], line: int, column: int) -> None:
    assert locate(tree_of(NESTED), path) == Mark("f.yaml", line, column)


def test_every_part_of_a_tree_has_its_position() -> None:
    tree = tree_of("# first\na:\n  - b: c\n")

    assert isinstance(tree, Mapping)
    assert tree.keys == {"a": Mark("f.yaml", 2, 1)}
    listing = tree.items["a"]
    assert isinstance(listing, Listing)
    assert listing.mark == Mark("f.yaml", 3, 3)
    inner = listing.items[0]
    assert isinstance(inner, Mapping)
    assert inner.items["b"] == Scalar("c", Mark("f.yaml", 3, 8))


def test_plain_returns_the_data() -> None:
    assert plain(tree_of(NESTED)) == {
        "top": "text",
        "models": [{"name": "a", "sources": ["one", "two"]}, {"name": "b", "sources": ["three"]}],
        "last": "lines\n",
    }


# -- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: 1\nb: \xff\n", ["f.yaml:2: not UTF-8 (byte 8); save the file as UTF-8"]),
        ("a: 1\n".encode("utf-16"), ["f.yaml:1: not UTF-8 (byte 0); save the file as UTF-8"]),
        (b"", ["f.yaml:1: the file is empty"]),
        (b"\n# nothing\n", ["f.yaml:1: the file is empty"]),
        (b"a: 1\nb: \x00\n", ["f.yaml:2: not YAML: the character U+0000 is not allowed"]),
        (b'a: 1\nb: "\\0"\n', ["f.yaml:2: b: the character U+0000 is not allowed"]),
        (b'a: "\\ud800"\n', ["f.yaml:1: a: the character U+D800 is not allowed"]),
        (b'a:\n- "\\UFFFFFFFF"\n', ["f.yaml:2: not YAML: an escape or a number out of range"]),
        (
            b"%YAML " + b"9" * 5000 + b".1\n---\na: 1",
            ["f.yaml:1: not YAML: an escape or a number out of range"],
        ),
        (
            b"a: 1\na: 2\na: 3\n",
            [f"f.yaml:{n}: a: duplicate key; already used in line 1" for n in (2, 3)],
        ),
        (b'b:\n- a: 1\n  "a": 2\n', ["f.yaml:3: b[0].a: duplicate key; already used in line 2"]),
        (b"? [a]\n: b\n", ["f.yaml:1: a key must be plain text"]),
        (b"? \n: b\n", ["f.yaml:1: a key must be plain text"]),
        (b'"\\e[31m": b\n', ["f.yaml:1: a key must be plain text"]),
        (b"a: [\n", ["f.yaml:2: not YAML: the file ends within brackets"]),
        (b"a: 1\nb: {c: [d,\n\n", ["f.yaml:4: not YAML: the file ends within brackets"]),
        (b"a: 1\nb: [c\n\n", ["f.yaml:2: not YAML: a bracket or quote is opened here and never closed"]),
        (b"a: 1\nb: 'c\n\n", ["f.yaml:2: not YAML: a bracket or quote is opened here and never closed"]),
        (b"a: @b\n", ["f.yaml:1: not YAML: found character '@' that cannot start any token"]),
    ],
    ids=repr,
)
def test_refused_with_its_line(data: bytes, expected: list[str]) -> None:
    assert problems_of(data) == expected


def test_first_of_two_equal_keys_wins() -> None:
    tree, problems = parse(b"a: 1\na: 2\n", "f")

    assert len(problems) == 1
    assert tree is not None
    assert plain(tree) == {"a": 1}


def test_depth_has_a_limit() -> None:
    assert problems_of("[" * MAX_DEPTH + "x" + "]" * MAX_DEPTH) == []
    deep = problems_of("[" * (MAX_DEPTH + 1) + "x" + "]" * (MAX_DEPTH + 1))
    assert [line.rsplit(": ", 1)[1] for line in deep] == [f"nested deeper than {MAX_DEPTH} levels"]


def test_size_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_BYTES == 1_048_576
    monkeypatch.setattr("gesso.manifest.yamlsource.MAX_BYTES", 1000)

    assert problems_of(b"a: " + b"x" * 997) == []
    assert problems_of(b"a: " + b"x" * 998) == ["f.yaml:1: 1,001 bytes; a manifest has at most 1,000"]


def test_problem_is_always_one_printable_line() -> None:
    problem = Problem(Mark("a\nb", 1), "k\x1b[31m", "bad\r\u2028\ud800\N{SNOWMAN}")

    assert str(problem) == "a\\nb:1: k\\x1b[31m: bad\\r\\u2028\\ud800\N{SNOWMAN}"


def test_read_returns_problems(tmp_path: Path) -> None:
    tree, problems = read(tmp_path / "none.yaml", shown_as="none.yaml")
    assert (tree, [str(p) for p in problems]) == (None, ["none.yaml:1: no such file"])

    tree, problems = read(tmp_path, shown_as="folder")
    assert (tree, [str(p) for p in problems]) == (None, ["folder:1: cannot be read: Is a directory"])

    (tmp_path / "a.yaml").write_text("a: 1\n")
    tree, problems = read(tmp_path / "a.yaml")
    assert problems == []
    assert tree is not None
    assert tree.mark.file == str(tmp_path / "a.yaml")


# -- any input ----------------------------------------------------------------------------------------------


def check_any(data: bytes) -> None:
    tree, problems = parse(data, "f")

    assert tree is not None or problems
    lines = data.count(b"\n") + data.count(b"\r") + data.count(b"\xc2\x85") + data.count(b"\xe2\x80") + 1
    for problem in problems:
        assert 1 <= problem.mark.line <= lines
        assert str(problem).isprintable()
    if tree is not None:
        plain(tree)


@settings(max_examples=35, deadline=None)
@given(st.binary(max_size=60))
@example(b"\xef\xbb\xbf")
@example(b"---")
def test_any_bytes_give_a_tree_or_problems(data: bytes) -> None:
    check_any(data)


PIECES = [
    *"abc01:-?|>\"'[]{},&*!%@`#~ \n\t\\",
    "\n  ",
    ": ",
    "- ",
    "---\n",
    "...\n",
    "\\x",
    "\\U",
    "FFFFFFFF",
    "%YAML 1.1\n",
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
@example('"\\UFFFFFFFF"')
@example("[" * 1000)
@example("{a: " * 1000)
def test_any_text_like_yaml_gives_a_tree_or_problems(text: str) -> None:
    check_any(text.encode())


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_text_gives_a_tree_or_problems(text: str) -> None:
    check_any(text.encode())


# -- round trip -----------------------------------------------------------------------------------------


class Quoting(yaml.SafeDumper):
    """Writes text in quotes, everything else plain, without aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t"), max_size=12)
KEY = TEXT.filter(bool)
LEAF = TEXT | st.sampled_from(["no", "1", "true", "~", "22:22"]) | st.booleans() | st.none()
LEAVES = LEAF | st.integers(-(10**18) + 1, 10**18 - 1)
DATA = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEY, inner, max_size=4))


def same(left: object, right: object) -> bool:
    """Compare two structures; True and 1 differ."""
    return repr(left) == repr(right)


@settings(max_examples=35, deadline=None)
@given(DATA)
def test_what_is_written_in_quotes_is_read_back(data: object) -> None:
    text = yaml.dump(data, Dumper=Quoting, sort_keys=False)

    tree, problems = parse(text.encode(), "f")

    assert problems == []
    assert tree is not None
    assert same(plain(tree), data)
