"""The difference between two locks: as lines for a terminal, as Markdown for a pull request."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.builder.lock.changes import Change, Moved, changes, difference, markdown, python_changes
from gesso.builder.lock.python_pins import Pin, read_pins
from gesso.manifest.lock import Lock, LockedModel, LockedSource, read_lock

ROOT = Path(__file__).resolve().parents[4]
LOCK = read_lock(ROOT / "manifests/locks/sdxl.lock.json")
COMFY = "https://github.com/Comfy-Org/ComfyUI"


def _pins(**versions: str) -> tuple[Pin, ...]:
    return tuple(Pin(name, version, "") for name, version in versions.items())


def _with(**parts: Any) -> Lock:
    return LOCK.model_copy(update=parts)


def test_difference_as_lines() -> None:
    assert difference(LOCK, LOCK, _pins(a="1"), _pins(a="1")) == []
    assert difference(None, LOCK, (), _pins(a="1")) == [
        f"+ new lock: {len(LOCK.nodes)} node packs, 1 Python pins, {len(LOCK.models)} models"
    ]
    nodes = dict(LOCK.nodes)
    gone = nodes.pop("ComfyUI-GGUF")
    nodes["newcomer"] = LockedSource(git="https://x/y", ref="v1", commit="b" * 40)
    changed = LockedModel(name=LOCK.models[0].name, sources=("https://x/y",), sha256="c" * 64)
    new = _with(
        base=LOCK.base.model_copy(update={"digest": "sha256:new"}),
        comfyui=LOCK.comfyui.model_copy(update={"commit": "a" * 40}),
        nodes=nodes,
        models=(changed, *LOCK.models[1:]),
    )
    lines = difference(LOCK, new, _pins(a="1", b="1", same="1"), _pins(a="1.1", c="1", same="1"))
    first = LOCK.models[0]
    model = f"{first.sha256[:12]} {first.size or 'size unknown'}"
    assert lines == [
        f"~ base {LOCK.base.digest} -> sha256:new",
        f"~ ComfyUI {(LOCK.comfyui.commit or '')[:12]} -> {'a' * 12}",
        f"- ComfyUI-GGUF {(gone.commit or '')[:12]}",
        f"+ newcomer {'b' * 12}",
        "~ a 1 -> 1.1",
        "- b 1",
        "+ c 1",
        f"~ {first.name} {model} -> {'c' * 12} size unknown (sources changed)",
    ]


# --- single things


def test_a_confirmed_size_is_noted() -> None:
    sure = _with(models=(LOCK.models[0].model_copy(update={"size_confirmed": True}), *LOCK.models[1:]))
    [confirmed], [unconfirmed] = changes(LOCK, sure), changes(sure, LOCK)
    assert (confirmed.note, unconfirmed.note) == ("size confirmed", "size no longer confirmed")


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        ("1.2.3", "1.2.4", ""),
        ("1.2.3", "1.3.0", ""),
        ("1.2.3", "2.0", "major"),
        ("1!1.0", "2!1.0", "major"),
        ("2.0", "1.9", "downgrade"),
        ("1.0", "1.0.post1", ""),
        ("not a version", "2", ""),
    ],
)
def test_version_steps(old: str, new: str, note: str) -> None:
    assert python_changes(_pins(a=old), _pins(a=new)) == (Change("python", "a", old, new, note),)


def test_the_same_version_with_other_files() -> None:
    """Files that disappear from a published version need attention."""
    one, two, three = (f"    --hash=sha256:{c * 64}" for c in "123")
    old = read_pins(f"a==1 \\\n{one} \\\n{two}\n")
    assert [str(c) for c in python_changes(old, read_pins(f"a==1 \\\n{two} \\\n{three}\n"))] == [
        "~ a 1 (files: 1 added, 1 removed)"
    ]
    marked = read_pins(f"a==1 ; os_name == 'nt' \\\n{one} \\\n{two}\n")
    assert [str(c) for c in python_changes(old, marked)] == ["~ a 1 (requirement changed)"]
    assert python_changes(old, old) == ()


def test_another_repository_is_noted() -> None:
    moved = LOCK.comfyui.model_copy(update={"git": "https://github.com/somebody/ComfyUI"})
    (change,) = changes(LOCK, _with(comfyui=moved))
    assert change.note == "now from https://github.com/somebody/ComfyUI"
    assert change.old == change.new
    assert change.link == "https://github.com/somebody/ComfyUI"  # two repositories cannot be compared


def test_another_ref_of_the_same_commit_is_no_change() -> None:
    assert changes(LOCK, _with(comfyui=LOCK.comfyui.model_copy(update={"ref": "v0.33.0"}))) == ()


def test_other_sources_of_a_model_are_noted() -> None:
    moved = LOCK.models[0].model_copy(update={"sources": ("https://elsewhere/x",)})
    (change,) = changes(LOCK, _with(models=(moved, *LOCK.models[1:])))
    assert (change.old, change.note) == (change.new, "sources changed")


@pytest.mark.parametrize(
    ("git", "link"),
    [
        (COMFY, f"{COMFY}/compare/OLD...NEW"),
        (f"{COMFY}.git", f"{COMFY}/compare/OLD...NEW"),
        ("https://gitlab.com/a/b/c", "https://gitlab.com/a/b/c/-/compare/OLD...NEW"),
        ("https://git.example.org/a/b", ""),
        ("https://github.com/a/b)[x](https://bad", ""),
        ("https://github.com/a", ""),
        ("https://github.com.bad.example/a/b", ""),
    ],
)
def test_the_link_compares_the_commits(git: str, link: str) -> None:
    old = LockedSource(git=git, ref="main", commit="1" * 40)
    new = LockedSource(git=git, ref="main", commit="2" * 40)
    (change,) = changes(_with(comfyui=old), _with(comfyui=new))
    assert change.link == link.replace("OLD", "1" * 40).replace("NEW", "2" * 40)


# --- the page


def test_the_page() -> None:
    old = _with(comfyui=LockedSource(git=COMFY, ref="master", commit="1" * 40))
    new = _with(
        comfyui=LockedSource(git=COMFY, ref="master", commit="2" * 40),
        base=LOCK.base.model_copy(update={"digest": "sha256:new"}),
    )
    page = markdown(
        [
            Moved("flux.lock.json", changes(old, new), (("models a", "no answer"),)),
            Moved("sdxl.lock.json", changes(old, new), (("models a", "no answer"),)),
            Moved("python.lock.txt", python_changes(_pins(a="1", b="1"), _pins(a="2", c="3"))),
        ]
    )
    assert page == (
        "### Base image\n\n| what | from | to | | in |\n|---|---|---|---|---|\n"
        f"| `base` | `{LOCK.base.digest}` | `sha256:new` |  | `flux.lock.json`, `sdxl.lock.json` |\n\n"
        "### Sources\n\n| what | from | to | | in |\n|---|---|---|---|---|\n"
        f"| `ComfyUI` | `{'1' * 12}` | [`{'2' * 12}`]({COMFY}/compare/{'1' * 40}...{'2' * 40}) |  "
        "| `flux.lock.json`, `sdxl.lock.json` |\n\n"
        "### Python\n\n| what | from | to | | in |\n|---|---|---|---|---|\n"
        "| `a` | `1` | `2` | `major` | `python.lock.txt` |\n"
        "| `b` | `1` |  | `removed` | `python.lock.txt` |\n"
        "| `c` |  | `3` | `new` | `python.lock.txt` |\n\n"
        "### Kept, not confirmed\n\n| what | why |\n|---|---|\n| `models a` | `no answer` |\n"
    )


def test_a_page_without_changes() -> None:
    assert markdown([]) == "No changes.\n"
    assert markdown([Moved("a", (), (("base", "no answer"),))]).startswith("No changes.\n\n### Kept, not confirmed")


def test_untrusted_names_add_no_formatting() -> None:
    hostile = "x`|](https://bad) @everyone\n| <img src=x> #1"
    page = markdown([Moved("w|`", (Change("python", hostile, hostile, hostile, hostile),), ((hostile, hostile),))])
    rows = [line for line in page.splitlines() if "bad" in line]
    assert len(rows) == 2
    outside = [re.sub(r"`[^`]*`", "", row) for row in rows]
    assert outside == ["|  |  |  |  |  |", "|  |  |"]
    assert all(len(row.split("|")[1:]) == n for row, n in zip(rows, (6, 3), strict=True))


TEXTS = st.text(max_size=40) | st.sampled_from(["`", "|", "\\", "\\|", "\r\n", "\x00", "\u2028", "```"])


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=30), st.integers(200, 3000))
def test_every_row_is_complete_and_the_page_is_within_its_limit(rows: list[tuple[str, str, str]], limit: int) -> None:
    expected = tuple(Change("python", name, old, new) for name, old, new in rows)
    page = markdown([Moved("x", expected)], limit=limit)
    assert len(page) <= limit
    table = [line for line in page.split("\n") if line.startswith("| ") and "`" in line]
    left_out = re.search(r"^(\d+) more rows did not fit", page, re.MULTILINE)
    assert len(table) + int(left_out[1] if left_out else 0) == len(set(expected))
    for line in table:
        assert len(line.split("|")[1:]) == 6
        assert line.count("`") % 2 == 0
        assert not [c for c in line if not c.isprintable()]
