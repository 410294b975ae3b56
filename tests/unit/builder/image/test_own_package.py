"""gesso's package for an instance: without the builder and the development tools."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from gesso.builder.image import own_package
from gesso.builder.image.own_package import Wheel, copy_package, own_wheel
from gesso.errors import BuildError
from gesso.settings import Project

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def wheel() -> Wheel:
    return own_wheel(Project(ROOT))


def test_the_wheel_holds_neither_builder_nor_devtools(wheel: Wheel) -> None:
    names = zipfile.ZipFile(io.BytesIO(wheel.content)).namelist()
    rooms = {name.split("/")[1] for name in names if name.startswith("gesso/")}
    assert {"runtime", "models", "manifest", "workflow", "cli", "errors.py"} <= rooms
    assert not rooms & {"builder", "devtools"}
    assert "gesso/runtime/web/static/page.html" in names or any("/static/" in name for name in names)


def test_the_wheel_has_every_module_of_the_other_subpackages(wheel: Wheel) -> None:
    """Compared with the checkout, to detect a pattern that excludes too much."""
    actual = {name for name in zipfile.ZipFile(io.BytesIO(wheel.content)).namelist() if name.endswith(".py")}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gesso").rglob("*.py")}
    assert actual == {name for name in modules if name.split("/")[1] not in {"builder", "devtools"}}


def test_the_same_files_make_the_same_wheel(wheel: Wheel) -> None:
    assert own_wheel(Project(ROOT)) == wheel


def test_a_copy_without_some_paths(tmp_path: Path) -> None:
    source = tmp_path / "gesso"
    for name in ("cli/main.py", "builder/x.py", "devtools/x.py", "runtime/web/app.py", "runtime/builder/x.py",
                 "cli/__pycache__/main.pyc", "errors.py"):  # fmt: skip
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    copy_package(source, tmp_path / "copy", without=("runtime/web",))
    copied = sorted(path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*.py"))
    assert copied == ["cli/main.py", "errors.py", "runtime/builder/x.py"]


def test_a_wheel_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("README.md", "LICENSE"):
        (tmp_path / name).touch()
    (tmp_path / "pyproject.toml").write_text("[build-system]\n")
    (tmp_path / "gesso").mkdir()
    with pytest.raises(BuildError, match="own wheel could not be built"):
        own_package.own_wheel(Project(tmp_path))
