"""A build context on disk: complete, exact, and never written over existing files."""

from __future__ import annotations

from pathlib import Path

import pytest

from gesso.builder.image import context
from gesso.builder.image.context import Inputs
from gesso.builder.image.own_package import Wheel
from gesso.builder.image.plan import Plan
from gesso.builder.image.spares import Spare
from gesso.errors import BuildError, ManifestError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "build").mkdir(parents=True)
    (folder / "build" / "net.sh").write_text("net\n")
    bin_ = folder / "rootfs" / "usr" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "entrypoint.sh").write_text("#!/bin/sh\n")
    (bin_ / "entrypoint.sh").chmod(0o755)
    (bin_ / "gesso").symlink_to("/opt/gesso/venv/bin/gesso")
    (folder / "Dockerfile.j2").write_text("# one\nFROM {{ base }}\nRUN {{ apt | join(' ') }}\n")
    return folder


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    comfyui = tmp_path / "comfyui"
    node = tmp_path / "cache" / "abcdef"
    for folder in (comfyui, node):
        (folder / "__pycache__").mkdir(parents=True)
        (folder / "__pycache__" / "x.cpython-313.pyc").write_bytes(b"0")
        (folder / "left.pyc").write_bytes(b"0")
        (folder / ".git").mkdir()
        (folder / "main.py").write_bytes(b"a\r\n")
        (folder / "empty").touch()
        (folder / "run.sh").touch(mode=0o755)
        (folder / "link").symlink_to("main.py")
        (folder / "dangling").symlink_to("nowhere")
        (folder / ".hidden").touch()
    spares = (Spare("ComfyUI", "/opt/ComfyUI", b"1"), Spare("gesso", "/", b"2"))
    return Inputs(comfyui, {"pack": node}, Wheel("gesso-1-py3-none-any.whl", b"wheel"), spares=spares)


def _plan(**variables: object) -> Plan:
    values = {"base": "debian@sha256:0", "apt": ("a", "b"), **variables}
    return Plan(("gesso:x",), values, {"python/constraints.txt": "é==1\n", "gesso/requirements.txt": "x"}, trial=False)


def test_a_context_is_complete(images: Path, inputs: Inputs, tmp_path: Path) -> None:
    target = tmp_path / "new" / "out"
    context.write_context(_plan(), inputs, images, target)
    found = {str(p.relative_to(target)) for p in target.rglob("*") if p.is_symlink() or p.is_file()}
    source = {"main.py", "empty", "run.sh", "link", "dangling", ".hidden"}
    assert found == {
        "Dockerfile", ".dockerignore", "python/constraints.txt", "gesso/requirements.txt",
        "gesso/gesso-1-py3-none-any.whl", "build/net.sh", "rootfs/usr/bin/entrypoint.sh", "rootfs/usr/bin/gesso",
        "spare/ComfyUI.tar.xz", "arch/spare/gesso.tar.xz",
        *(f"sources/ComfyUI/{name}" for name in source), *(f"sources/nodes/pack/{name}" for name in source),
    }  # fmt: skip
    assert (target / "Dockerfile").read_text() == "# one\nFROM debian@sha256:0\nRUN a b\n"
    assert (target / "python/constraints.txt").read_bytes() == "é==1\n".encode()
    assert (target / "gesso/gesso-1-py3-none-any.whl").read_bytes() == b"wheel"
    ignored = (target / ".dockerignore").read_text().splitlines()
    assert all(line.startswith("#") for line in ignored)


def test_links_modes_and_bytes_are_kept(images: Path, inputs: Inputs, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()  # an empty folder is accepted
    context.write_context(_plan(), inputs, images, target)
    for folder in (target / "sources/ComfyUI", target / "sources/nodes/pack"):
        assert (folder / "link").readlink() == Path("main.py")
        assert (folder / "dangling").readlink() == Path("nowhere")
        assert (folder / "main.py").read_bytes() == b"a\r\n"
        assert (folder / "run.sh").stat().st_mode & 0o111
        assert not (folder / "main.py").stat().st_mode & 0o111
    assert (target / "rootfs/usr/bin/gesso").readlink() == Path("/opt/gesso/venv/bin/gesso")
    assert (target / "rootfs/usr/bin/entrypoint.sh").stat().st_mode & 0o111


@pytest.mark.parametrize("kind", ["a folder with something", "a file", "a hidden file"])
def test_existing_files_are_never_overwritten(images: Path, inputs: Inputs, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "mine"
    if kind == "a file":
        target.write_text("precious")
    else:
        target.mkdir()
        (target / (".keep" if "hidden" in kind else "file")).write_text("precious")
    before = {p: p.read_text() for p in [target, *target.glob("*"), *target.glob(".*")] if p.is_file()}
    with pytest.raises(ManifestError, match="mine: is not an empty folder") as raised:
        context.write_context(_plan(), inputs, images, target)
    assert raised.value.exit_code == 2
    assert "--out" in raised.value.next_step
    assert {p: p.read_text() for p in [target, *target.glob("*"), *target.glob(".*")] if p.is_file()} == before


def test_a_template_that_fails_writes_nothing(images: Path, inputs: Inputs, tmp_path: Path) -> None:
    (images / "Dockerfile.j2").write_text("{{ missing }}")
    with pytest.raises(BuildError):
        context.write_context(_plan(), inputs, images, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("template", "line", "reason"),
    [
        ("# one\nFROM {{ base }}\nRUN {{ missing }}\n", 3, "'missing' is undefined"),
        ("# one\n{% for x in lost %}{{ x }}{% endfor %}\n", 2, "'lost' is undefined"),
        ("# one\n\n\n{{ base.nothing.more }}\n", 4, "has no attribute 'nothing'"),
        ("# one\n{% if %}\n", 2, "Expected an expression"),
        ("# one\n{% for x in apt %}\n", 2, "Unexpected end of template"),
    ],
)
def test_a_template_error_names_the_line(images: Path, template: str, line: int, reason: str) -> None:
    (images / "Dockerfile.j2").write_text(template)
    with pytest.raises(BuildError) as raised:
        context.dockerfile(_plan(), images)
    assert raised.value.message.startswith(f"images/Dockerfile.j2:{line}: ")
    assert reason in raised.value.message
    assert raised.value.exit_code == 6
    assert raised.value.next_step == "correct the template"


def test_every_variable_of_the_real_template_is_required() -> None:
    """A missing variable is an error: the template has no silent defaults."""
    images = Path(__file__).resolve().parents[4] / "images"
    variables = {
        "arch": "x", "base": "x", "apt": ["x"], "apt_without": [],
        "python_version": "3.13", "groups": ["x"], "nodes": [],
        "gesso_wheel": "x", "sqlalchemy": "x", "epoch": 1, "labels": {"a": "b"},
        "baked": [], "trial": False,
    }  # fmt: skip
    complete = Plan((), variables, {}, trial=False)
    assert context.dockerfile(complete, images)
    for name in variables:
        rest = {key: value for key, value in variables.items() if key != name}
        with pytest.raises(BuildError, match=rf"images/Dockerfile\.j2:\d+: '{name}' is undefined"):
            context.dockerfile(Plan((), rest, {}, trial=False), images)
