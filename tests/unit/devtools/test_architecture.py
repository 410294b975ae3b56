"""The picture of the rooms follows the imports."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from gesso.devtools import architecture
from gesso.devtools.architecture import Room

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small house of every kind of room."""
    files = {
        "__init__.py": "", "errors.py": "", "manifest/__init__.py": "", "manifest/load.py": "from gesso import errors",
        "models/wanted.py": "from gesso.manifest.load import load",
        "workflow/graph.py": "from gesso.models import wanted",
        "builder/__init__.py": "", "builder/lock/resolve.py": "from gesso.manifest import load\nimport requests",
        "builder/image/plan.py": "def f():\n    from gesso.builder.lock import resolve\nfrom gesso.errors import X",
        "runtime/layout.py": "from gesso.errors import X", "runtime/atomic.py": "from gesso.runtime import layout",
        "runtime/boot.py": "from gesso.runtime.atomic import write", "cli/main.py": "from gesso.runtime import boot",
        "devtools/own_tests.py": "from gesso import errors",
    }  # fmt: skip
    root = tmp_path / "gesso"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_rooms_and_what_they_import(package: Path) -> None:
    found = architecture.rooms(package)
    assert {name: sorted(room.imports) for name, room in found.items()} == {
        "ground floor": [],
        "manifest": ["ground floor"],
        "models": ["manifest"],
        "workflow": ["models"],
        "builder/lock": ["manifest"],
        "builder/image": ["builder/lock", "ground floor"],
        "runtime/layout": ["ground floor"],
        "runtime/boot": ["runtime/layout"],
        "cli": ["runtime/boot"],
    }
    assert found["runtime/layout"].modules == ("atomic", "layout")
    assert found["builder/image"].wing == "builder"
    assert (found["cli"].wing, found["models"].wing) == ("runtime", "")


def test_an_arrow_that_follows_from_others_is_left_out(package: Path) -> None:
    arrows = architecture.reduced(architecture.rooms(package))
    assert arrows["builder/image"] == {"builder/lock"}
    assert arrows["builder/lock"] == {"manifest"}


def test_the_picture_is_svg_and_the_same_for_the_same_imports(package: Path) -> None:
    text = architecture.draw(architecture.rooms(package))
    assert text == architecture.draw(dict(reversed(architecture.rooms(package).items())))
    tree = ET.fromstring(text)
    texts = {node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert {"builder/image", "runtime/boot", "cli", "models", "plan", "atomic, layout"} <= texts
    heads = [node for node in tree.iter("{http://www.w3.org/2000/svg}path") if node.get("marker-end")]
    assert len(heads) == sum(map(len, architecture.reduced(architecture.rooms(package)).values()))


def test_a_new_import_changes_the_picture(package: Path) -> None:
    before = architecture.draw(architecture.rooms(package))
    (package / "models/wanted.py").write_text("from gesso.errors import X")
    assert architecture.draw(architecture.rooms(package)) != before


def test_a_circle_is_drawn_and_hangs_nothing() -> None:
    found = {name: Room(name, ("a",), frozenset()) for name in architecture.SHARED}
    found |= {
        "builder/a": Room("builder/a", ("x",), frozenset({"builder/b"})),
        "builder/b": Room("builder/b", ("x",), frozenset({"builder/a"})),
    }
    assert "builder/b" in architecture.draw(found)


def test_the_real_house_is_drawn_whole() -> None:
    ((path, text),) = architecture.generated().items()
    assert path.name == "rooms.svg"
    for name in architecture.rooms(architecture.PACKAGE):
        assert f">{name}</text>" in text
