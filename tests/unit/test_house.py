"""The rules of the house (docs: how the code is laid out), proven over the syntax trees of all modules."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_cover  # they read the code, and run none of it

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "gesso").rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}

BUILDER = (
    "gesso.builder.image", "gesso.builder.publish", "gesso.builder.commands", "gesso.builder.commands_publish", "gesso.devtools.own_tests", "gesso.devtools.coverage_gate",
    "gesso.devtools.parallel",
)  # fmt: skip
IN_IMAGE = ("gesso.runtime", "gesso.cli.main", "gesso.cli.models")
SHARED = ("gesso.manifest", "gesso.models", "gesso.workflow")
GROUND = ("gesso.errors", "gesso.dotenv", "gesso.settings", "gesso.proc", "gesso.report")
# What may import what: whoever is named on the left sees those on the right and its own, and nothing else of gesso.
MAY = {
    "gesso.errors": (),
    "gesso.dotenv": ("gesso.errors",),
    "gesso.settings": ("gesso.errors",),
    "gesso.proc": ("gesso.errors",),
    "gesso.report": ("gesso.errors", "gesso.proc"),
    "gesso.manifest": GROUND,
    "gesso.models": (*GROUND, "gesso.manifest"),
    "gesso.workflow": (*GROUND, "gesso.manifest", "gesso.models"),
    "gesso.runtime": (*GROUND, *SHARED),
    "gesso.cli.models": (*GROUND, *SHARED, "gesso.runtime"),
    "gesso.cli.main": (*GROUND, *SHARED, "gesso.runtime", "gesso.cli.models"),
    "gesso.builder.image": (*GROUND, *SHARED),
    "gesso.builder.publish": (*GROUND, *SHARED, "gesso.builder.image"),
    "gesso.devtools.parallel": GROUND,
    "gesso.devtools.coverage_gate": GROUND,
    "gesso.devtools.own_tests": (*GROUND, "gesso.devtools.parallel"),
    "gesso.builder.commands": (
        *GROUND,
        *SHARED,
        "gesso.builder.image",
        "gesso.builder.publish",
        "gesso.devtools.own_tests",
        "gesso.devtools.parallel",
    ),
    "gesso.builder.commands_publish": ("gesso.builder.commands", "gesso.builder.publish"),
}
RUNTIME_DEPENDENCIES = {"filelock", "huggingface_hub", "pydantic", "rich", "starlette", "uvicorn", "yaml"}


@functools.cache
def _imports(name: str, *, typing_only: bool = True) -> set[str]:
    """Name every module that `name` imports, wherever the import stands."""
    found: set[str] = set()
    skipped: set[ast.AST] = set()
    if not typing_only:
        for node in ast.walk(TREES[name]):
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
                skipped |= {inner for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(TREES[name]):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute here"
            module = node.module or ""
            found |= {f"{module}.{a.name}" if f"{module}.{a.name}" in MODULES else module for a in node.names}
    return found


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_there_is_something_to_check() -> None:
    assert {
        "gesso.cli.main",
        "gesso.proc",
        "gesso.builder.image.build",
        "gesso.runtime.boot",
        "gesso.manifest.load",
    } <= set(MODULES)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "gesso"])
def test_imports_go_down_only(name: str) -> None:
    floor = next((package for package in MAY if _within(name, (package,))), None)
    assert floor is not None, f"{name}: add it to MAY: which floor is it on?"
    allowed = (*MAY[floor], floor) if floor not in GROUND else MAY[floor]
    wrong = {m for m in _imports(name) if m.startswith("gesso.") and not _within(m, allowed)}
    assert not wrong, f"{name} imports {wrong}"


@pytest.mark.parametrize(("wing", "other"), [(BUILDER, IN_IMAGE), (IN_IMAGE, BUILDER)])
def test_the_wings_never_import_each_other(wing: tuple[str, ...], other: tuple[str, ...]) -> None:
    crossings = {
        (name, module) for name in MODULES if _within(name, wing) for module in _imports(name) if _within(module, other)
    }
    assert not crossings


def test_the_table_above_keeps_the_wings_apart() -> None:
    for name, seen in MAY.items():
        for other in (BUILDER, IN_IMAGE):
            if not _within(name, other):
                assert not set(seen) & set(other), name


def test_only_one_door_to_other_programs() -> None:
    doors = {"subprocess", "pty", "multiprocessing", "asyncio.subprocess"}
    assert [name for name in MODULES if _imports(name) & doors] == ["gesso.proc"]
    calls = re.compile(r"(system|popen|spawn\w*|posix_spawn\w*)\Z")
    for name, tree in TREES.items():
        of_os = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
                 and n.value.id == "os"]  # fmt: skip
        assert not [node.attr for node in of_os if calls.match(node.attr)], name


def test_what_the_image_runs_needs_only_its_own_dependencies() -> None:
    seen: set[str] = set()
    todo = {"gesso.cli.main"}
    outside: dict[str, set[str]] = {}
    while todo:
        name = todo.pop()
        seen.add(name)
        packages = {".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 1)}
        for module in _imports(name, typing_only=False) | packages:
            if _within(module, ("gesso",)):
                assert module in MODULES, f"{name} imports {module}, which is no module"
                todo |= {module} - seen
            elif (top := module.split(".")[0]) not in sys.stdlib_module_names:
                outside.setdefault(top, set()).add(name)
    assert outside.keys() <= RUNTIME_DEPENDENCIES, outside


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_for(name: str) -> None:
    assert ast.get_docstring(TREES[name])


@pytest.mark.parametrize("name", MODULES)
def test_no_module_grows_without_a_decision(name: str) -> None:
    """A module over 300 lines needs an ADR that names its file."""
    path = MODULES[name]
    if len(path.read_text(encoding="utf-8").splitlines()) > 300:
        shown = str(path.relative_to(ROOT))
        assert any(shown in adr.read_text(encoding="utf-8") for adr in (ROOT / "docs/adr").glob("*.md")), shown


def test_no_file_names_a_package_index() -> None:
    """Whoever builds chooses where packages come from; a file that names a host would choose for them."""
    hosts = ["py" + "pi.org", "python" + "hosted.org", "np" + "mjs.org", "np" + "mjs.com", "crates" + ".io"]
    hosts += ["ruby" + "gems.org", "ana" + "conda.org", "proxy.go" + "lang.org", "download.py" + "torch.org"]
    pattern = re.compile("|".join(map(re.escape, hosts)).encode(), re.IGNORECASE)
    words = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout: its files cannot be listed")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    assert len(files) > 50
    assert [str(f.relative_to(ROOT)) for f in files if f.is_file() and pattern.search(f.read_bytes())] == []
