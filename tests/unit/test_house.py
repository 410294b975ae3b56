"""The rules of the house (docs: how the code is laid out), proven over the syntax trees of all modules."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_cover  # they read the code, and run none of it

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "gesso").rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}

# The staircase, from its foot to its top: a room imports only rooms that come before it in its own staircase.
GROUND = ("errors", "redact", "settings", "retry", "proc", "small_files", "dotenv", "report")
SHARED = ("manifest", "models", "workflow")
BUILDER = ("lock", "image", "registry", "evidence", "publish", "diff", "vast", "remote", "commands")
RUNTIME = (
    "atomic", "locks", "unix_http", "agent_client", "layout", "variables", "gate", "state", "prepare", "services",
    "boot", "heal", "foreign", "watch", "web", "agent",
)  # fmt: skip
BESIDE = {  # rooms of one step, of which none may import the other
    ("runtime.gate", "runtime.state"), ("builder.publish", "builder.diff"),
}  # fmt: skip
FLOOR = [*GROUND, *SHARED]
STAIRCASES = {
    "builder": [*FLOOR, *(f"builder.{room}" for room in BUILDER)],
    "runtime": [*FLOOR, *(f"runtime.{room}" for room in RUNTIME), "cli"],
    "devtools": [*GROUND, "devtools"],
}
PAYLOAD = "gesso.builder.remote.payload"  # programs that run elsewhere, without gesso: never imported
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


def _room(name: str) -> str:
    """Return the room of a module: "gesso.builder.lock.resolve" -> "builder.lock"; "" for the packages above rooms."""
    parts = name.split(".")[1:]
    if parts[:1] in (["builder"], ["runtime"]):
        return ".".join(parts[:2]) if len(parts) > 1 else ""
    return parts[0] if parts else ""


def _staircase(room: str) -> list[str]:
    return next((steps for steps in STAIRCASES.values() if room in steps), [])


def upward(name: str, module: str) -> str:
    """Return what is wrong with an import by the staircase; empty if nothing is."""
    room, other = _room(name), _room(module)
    if other in {room, ""}:
        return ""
    steps = _staircase(room)
    if not steps:
        return f"{name} stands in no room"
    if other not in steps:
        return f"{name} imports {module}, which is in another wing"
    if steps.index(other) > steps.index(room):
        return f"{name} imports {module}, which is above it"
    return f"{name} imports {module}, which is beside it" if {(room, other), (other, room)} & BESIDE else ""


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Return modules that import each other in a circle, the first one again at the end; empty where there are none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_there_is_something_to_check() -> None:
    assert {"gesso.cli.main", "gesso.proc", "gesso.builder.image.build", "gesso.runtime.boot"} <= set(MODULES)
    rooms = {_room(name) for name in MODULES} - {""}
    assert rooms == {room for steps in STAIRCASES.values() for room in steps}, "the table and the tree differ"


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down_the_staircase(name: str) -> None:
    wrong = [
        text for module in sorted(_imports(name)) if module.startswith("gesso.") and (text := upward(name, module))
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("name", "module", "wrong"),
    [
        ("gesso.runtime.boot", "gesso.builder.image.plan", "another wing"),
        ("gesso.builder.lock.resolve", "gesso.runtime.layout", "another wing"),
        ("gesso.cli.main", "gesso.builder.commands.build", "another wing"),
        ("gesso.builder.commands.check", "gesso.devtools.own_tests", "another wing"),
        ("gesso.models.fetch", "gesso.devtools.parallel", "another wing"),
        ("gesso.builder.publish.command", "gesso.builder.vast.template.follow_up", "above it"),
        ("gesso.manifest.load", "gesso.models.wanted", "above it"),
        ("gesso.errors", "gesso.report", "above it"),
        ("gesso.runtime.state.state", "gesso.runtime.gate.caddy", "beside it"),
        ("gesso.builder.stray", "gesso.errors", "no room"),
        ("gesso.builder", "gesso.errors", "no room"),
    ],
)
def test_the_staircase_catches_what_it_should(name: str, module: str, wrong: str) -> None:
    assert wrong in upward(name, module)


@pytest.mark.parametrize(
    ("name", "module"),
    [("gesso.runtime.boot", "gesso.models.fetch"), ("gesso.cli.main", "gesso.runtime.boot"), ("gesso.report", "gesso")],
)
def test_the_staircase_lets_through_what_goes_down(name: str, module: str) -> None:
    assert upward(name, module) == ""


def _all_imports() -> dict[str, set[str]]:
    return {name: {module for module in _imports(name) if module in MODULES} for name in MODULES}


def test_no_circle_of_modules() -> None:
    assert circle(_all_imports()) == []


def test_no_circle_of_rooms() -> None:
    between: dict[str, set[str]] = {}
    for name, modules in _all_imports().items():
        if room := _room(name):
            between.setdefault(room, set()).update({_room(module) for module in modules} - {room, ""})
    assert circle(between) == []


def _folder(name: str) -> str:
    return name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]


def test_no_circle_of_folders_within_a_room() -> None:
    """Such as identify, net and download of the models, or the template of Vast.ai."""
    between: dict[str, set[str]] = {}
    for name, modules in _all_imports().items():
        folder = _folder(name)
        if folder.count(".") > _room(name).count(".") + 1:
            others = {
                module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0] for module in modules
            }
            between.setdefault(folder, set()).update(others - {folder})
    folders = {name: others & between.keys() for name, others in between.items()}
    assert {"gesso.models.net", "gesso.models.download", "gesso.models.identify"} <= folders.keys()
    assert circle(folders) == []


@pytest.mark.parametrize("folder", ["images/standin/ComfyUI", "images/standin/mirror"])
def test_no_circle_in_the_stand_ins(folder: str) -> None:
    modules = {path.stem: path for path in (ROOT / folder).rglob("*.py") if path.stem != "__init__"}
    assert len(modules) > 5
    imports: dict[str, set[str]] = {}
    for name, path in modules.items():
        nodes = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.ImportFrom)]
        last = {(node.module or "").split(".")[-1] for node in nodes}
        imports[name] = (last | {a.name for node in nodes for a in node.names}) & modules.keys()
    assert circle(imports) == []


def test_a_circle_is_found() -> None:
    edges = _all_imports()
    edges["gesso.errors"] = {*edges["gesso.errors"], "gesso.report"}
    assert {"gesso.errors", "gesso.report"} <= set(circle(edges))
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
    assert circle({"e": {"e"}}) == ["e", "e"]


def test_nothing_outside_of_devtools_imports_it() -> None:
    assert [
        name
        for name in MODULES
        if _room(name) != "devtools" and any(_room(module) == "devtools" for module in _imports(name))
    ] == []


def test_only_one_door_to_other_programs() -> None:
    doors = {"subprocess", "pty", "multiprocessing", "asyncio.subprocess"}
    assert [name for name in MODULES if _imports(name) & doors] == [PAYLOAD + ".keep", "gesso.proc"]
    calls = re.compile(r"(system|popen|spawn\w*|posix_spawn\w*)\Z")
    for name, tree in TREES.items():
        of_os = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
                 and n.value.id == "os"]  # fmt: skip
        assert not [node.attr for node in of_os if calls.match(node.attr)], name


def test_no_program_for_elsewhere_is_imported() -> None:
    assert {name for name in MODULES if name.startswith(f"{PAYLOAD}.")}
    assert not [name for name in MODULES if any(module.startswith(f"{PAYLOAD}.") for module in _imports(name))]


def test_what_the_image_runs_needs_only_its_own_dependencies() -> None:
    seen: set[str] = set()
    todo = {"gesso.cli.main", "gesso.runtime.foreign.command"}
    outside: dict[str, set[str]] = {}
    while todo:
        name = todo.pop()
        seen.add(name)
        packages = {".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 1)}
        for module in _imports(name, typing_only=False) | packages:
            if module.split(".")[0] == "gesso":
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
