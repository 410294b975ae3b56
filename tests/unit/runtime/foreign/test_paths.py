"""Where a foreign instance has its things: by its arguments, its extra paths, and what its Python says of itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gesso.errors import CheckError
from gesso.runtime.foreign import paths
from gesso.runtime.foreign.discover import Found, Process
from gesso.runtime.foreign.paths import Foreign, Python

PYTHON = Python(Path("/v/bin/python"), Path("/v/site"), Path("/v/site"), Path("/v"), venv=True, version="3.12.1")


def found(folder: Path, *argv: str, cwd: str = "/here") -> Found:
    return Found(folder, "/v/bin/python", Process(9, 1, ("python", "main.py", *argv), cwd, "/usr/bin/python3", {}))


@pytest.mark.parametrize(
    ("argv", "value"),
    [(["--port", "1"], "1"), (["--port=2"], "2"), (["--port", "1", "--port", "3"], "3"), (["--port"], "d"), ([], "d"),
     (["--port", "--cpu"], "d"), (["--portal", "9"], "d")],
)  # fmt: skip
def test_options(argv: list[str], value: str) -> None:
    assert paths.option(argv, "--port", "d") == value


def test_by_default_everything_is_in_its_folder() -> None:
    layout = paths.of(found(Path("/c")), PYTHON, Path("/b"), Path("/k"))
    assert (layout.comfyui, layout.models, layout.user) == (Path("/c"), Path("/c/models"), Path("/c/user"))
    assert (layout.port, layout.state, layout.gesso, layout.site_packages) == (
        8188, Path("/k"), Path("/b"), Path("/v/site"))  # fmt: skip
    assert layout.inside("/opt/ComfyUI/custom_nodes/x") == (Path("/c"), "custom_nodes/x")


def test_its_arguments_count() -> None:
    layout = paths.of(
        found(Path("/c"), "--base-directory", "data", "--models-directory", "../m", "--port=9000"),
        PYTHON, Path("/b"), Path("/k"),
    )  # fmt: skip
    assert (layout.comfyui, layout.models, layout.user) == (Path("/here/data"), Path("/m"), Path("/here/data/user"))
    assert layout.port == 9000


def test_one_that_died_is_where_it_was(tmp_path: Path) -> None:
    paths.remember(tmp_path, found(Path("/c"), "--port", "7000"))
    assert paths.of(Found(Path("/c"), "p"), PYTHON, Path("/b"), tmp_path).port == 7000
    assert paths.remembered(tmp_path, Path("/another")) == {}
    (tmp_path / "started.json").write_text('{"folder": "/c", "argv": [1]}')
    assert paths.remembered(tmp_path, Path("/c")) == {}


def test_what_is_kept_of_a_start_has_no_environment(tmp_path: Path) -> None:
    process = Process(9, 1, ("python", "main.py"), "/", "/p", {"SECRET": "hunter2"})
    paths.remember(tmp_path, Found(Path("/c"), "p", process))
    assert "hunter2" not in (tmp_path / "started.json").read_text()


def test_a_python_says_where_its_packages_are(tmp_path: Path) -> None:
    told = paths.ask(sys.executable, {}, tmp_path)
    assert (told.site / "sqlalchemy/__init__.py").is_file()
    assert told.venv
    (tmp_path / "sqlalchemy").mkdir()
    (tmp_path / "sqlalchemy/__init__.py").touch()
    assert paths.ask(sys.executable, {"PYTHONPATH": str(tmp_path)}, tmp_path).site == tmp_path
    for bad in ("/nonexistent/python", "/bin/true"):
        with pytest.raises(CheckError, match="does not say where its packages are"):
            paths.ask(bad, {}, tmp_path)


def test_models_that_lie_where_extra_paths_lead(tmp_path: Path) -> None:
    code = tmp_path / "ComfyUI"
    for name in ("ComfyUI/models/vae", "big/ckpt", "more", "ComfyUI/user"):
        (tmp_path / name).mkdir(parents=True)
    (code / "extra_model_paths.yaml").write_text(
        f"a1111:\n  base_path: {tmp_path}/big\n  checkpoints: |\n    ckpt\n    {tmp_path}/more\n"
        "  is_default: true\nodd: 7\n"
    )
    for path in ("big/ckpt/a.safetensors", "more/b.safetensors", "ComfyUI/models/vae/c.safetensors"):
        (tmp_path / path).touch()
    layout = Foreign(comfyui=code, models_at=code / "models")
    names = ["checkpoints/a.safetensors", "checkpoints/b.safetensors", "vae/c.safetensors", "vae/d.safetensors"]
    folder = paths.models_folder(layout, names, (), code)
    assert [folder.path(name) for name in names] == [
        tmp_path / "big/ckpt/a.safetensors",
        tmp_path / "more/b.safetensors",
        code / "models/vae/c.safetensors",
        code / "models/vae/d.safetensors",
    ]


@pytest.mark.parametrize("text", ["", "[]", "a: b", "a: {checkpoints: [x]}", ": :", "\x00", "a: !!python/object:x {}"])
def test_extra_paths_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "extra_model_paths.yaml").write_text(text)
    assert paths.extra_paths(Foreign(comfyui=tmp_path), (), tmp_path) == {}
