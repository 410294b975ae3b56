"""The folders of a foreign instance: from its arguments, its extra paths, and its Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gesso.errors import CheckError
from gesso.runtime.foreign import paths
from gesso.runtime.foreign.discover import Found, Process
from gesso.runtime.foreign.paths import ForeignLayout, Python

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


def test_by_default_everything_is_in_comfyuis_folder() -> None:
    layout = paths.layout_of(found(Path("/c")), PYTHON, Path("/b"), Path("/k"))
    assert (layout.comfyui, layout.models, layout.user) == (Path("/c"), Path("/c/models"), Path("/c/user"))
    assert (layout.port, layout.state, layout.gesso, layout.site_packages) == (
        8188, Path("/k"), Path("/b"), Path("/v/site"))  # fmt: skip
    assert layout.locate("/opt/ComfyUI/custom_nodes/x") == (Path("/c"), "custom_nodes/x")


def test_folders_from_its_arguments() -> None:
    layout = paths.layout_of(
        found(Path("/c"), "--base-directory", "data", "--models-directory", "../m", "--port=9000"),
        PYTHON, Path("/b"), Path("/k"),
    )  # fmt: skip
    assert (layout.comfyui, layout.models, layout.user) == (Path("/here/data"), Path("/m"), Path("/here/data/user"))
    assert layout.port == 9000


def test_a_stopped_comfyui_keeps_its_last_arguments(tmp_path: Path) -> None:
    paths.save_start(tmp_path, found(Path("/c"), "--port", "7000"))
    assert paths.layout_of(Found(Path("/c"), "p"), PYTHON, Path("/b"), tmp_path).port == 7000
    assert paths.saved_start(tmp_path, Path("/another")) == {}
    (tmp_path / "started.json").write_text('{"folder": "/c", "argv": [1]}')
    assert paths.saved_start(tmp_path, Path("/c")) == {}


def test_a_saved_start_has_no_environment(tmp_path: Path) -> None:
    process = Process(9, 1, ("python", "main.py"), "/", "/p", {"SECRET": "hunter2"})
    paths.save_start(tmp_path, Found(Path("/c"), "p", process))
    assert "hunter2" not in (tmp_path / "started.json").read_text()


def test_a_python_is_queried_for_its_packages(tmp_path: Path) -> None:
    found_python = paths.inspect_python(sys.executable, {}, tmp_path)
    assert (found_python.site / "sqlalchemy/__init__.py").is_file()
    assert found_python.venv
    (tmp_path / "sqlalchemy").mkdir()
    (tmp_path / "sqlalchemy/__init__.py").touch()
    assert paths.inspect_python(sys.executable, {"PYTHONPATH": str(tmp_path)}, tmp_path).site == tmp_path
    for bad in ("/nonexistent/python", "/bin/true"):
        with pytest.raises(CheckError, match="cannot determine where this Python has its packages"):
            paths.inspect_python(bad, {}, tmp_path)


def test_models_in_folders_of_extra_model_paths(tmp_path: Path) -> None:
    code = tmp_path / "ComfyUI"
    for name in ("ComfyUI/models/vae", "big/ckpt", "more", "ComfyUI/user"):
        (tmp_path / name).mkdir(parents=True)
    (code / "extra_model_paths.yaml").write_text(
        f"a1111:\n  base_path: {tmp_path}/big\n  checkpoints: |\n    ckpt\n    {tmp_path}/more\n"
        "  is_default: true\nodd: 7\n"
    )
    for path in ("big/ckpt/a.safetensors", "more/b.safetensors", "ComfyUI/models/vae/c.safetensors"):
        (tmp_path / path).touch()
    layout = ForeignLayout(comfyui=code, models_at=code / "models")
    names = ["checkpoints/a.safetensors", "checkpoints/b.safetensors", "vae/c.safetensors", "vae/d.safetensors"]
    folder = paths.models_folder(layout, names, (), code)
    assert [folder.path(name) for name in names] == [
        tmp_path / "big/ckpt/a.safetensors",
        tmp_path / "more/b.safetensors",
        code / "models/vae/c.safetensors",
        code / "models/vae/d.safetensors",
    ]


@pytest.mark.parametrize("text", ["", "[]", "a: b", "a: {checkpoints: [x]}", ": :", "\x00", "a: !!python/object:x {}"])
def test_invalid_extra_model_paths(tmp_path: Path, text: str) -> None:
    (tmp_path / "extra_model_paths.yaml").write_text(text)
    assert paths.extra_paths(ForeignLayout(comfyui=tmp_path), (), tmp_path) == {}
