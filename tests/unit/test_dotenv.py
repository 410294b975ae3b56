"""Tokens from `.env`: its syntax, which variables are used, and where it must not appear."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso import dotenv, proc
from gesso.builder.image import bake, build
from gesso.builder.remote import command as remote_command
from gesso.builder.vast import command
from gesso.builder.vast.api import Api
from gesso.builder.vast.instances import InstanceClient
from gesso.builder.vast.request import VastRequest
from gesso.cli import models as models_cli
from gesso.errors import ManifestError, PublishError
from gesso.settings import Project, Selection

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-0123456789abcdef"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A checkout with its own `.env`: this project's tracked files, and a canary."""
    root = tmp_path / "project"
    argv = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(argv, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout: its files cannot be listed")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "bench/")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name, follow_symlinks=False)
    (root / ".env").write_text("".join(f"{name}={CANARY}\n" for name in dotenv.TOKENS) + f"OTHER={CANARY}\n")
    return Project(root)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("HF_TOKEN=abc", "abc"),
        ("export HF_TOKEN=abc", "abc"),
        ("  HF_TOKEN = abc  ", "abc"),
        ("HF_TOKEN='a b # c'", "a b # c"),
        ('HF_TOKEN="a b # c"', "a b # c"),
        ("HF_TOKEN=abc # a comment", "abc"),
        ("HF_TOKEN=abc#d", "abc#d"),
        ("HF_TOKEN=$HOME`id`", "$HOME`id`"),
        ("HF_TOKEN='${OTHER}'", "${OTHER}"),
        ("HF_TOKEN=", ""),
        ("HF_TOKEN= # none", ""),
        ("\ufeffHF_TOKEN=abc\r\n", "abc"),
        ("# HF_TOKEN=abc\n\nHF_TOKEN=def", "def"),
    ],
)
def test_a_valid_line(tmp_path: Path, text: str, value: str) -> None:
    (tmp_path / ".env").write_text(text, encoding="utf-8")
    assert dotenv.read(tmp_path / ".env") == {"HF_TOKEN": value}


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (f"A=1\n{CANARY}", 2, "not NAME=VALUE"),
        (f"HF_TOKEN='{CANARY}", 1, "not NAME=VALUE"),
        (f'HF_TOKEN="{CANARY}\\n"', 1, "not NAME=VALUE"),
        (f"HF_TOKEN={CANARY} more", 1, "not NAME=VALUE"),
        (f"1HF={CANARY}", 1, "not NAME=VALUE"),
        (f"HF_TOKEN: {CANARY}", 1, "not NAME=VALUE"),
        (f"A={CANARY}\nB=2\nA=3", 3, "A is set twice"),
    ],
)
def test_an_invalid_line_is_reported_with_its_number_and_never_its_text(
    tmp_path: Path, text: str, line: int, why: str
) -> None:
    (tmp_path / ".env").write_text(text)
    with pytest.raises(ManifestError, match=rf"\.env:{line}: {why}") as raised:
        dotenv.read(tmp_path / ".env")
    assert CANARY not in str(raised.value)
    assert raised.value.exit_code == 2


def test_missing_and_invalid_files(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert dotenv.read(path) == {}
    path.write_bytes(b"A=\xff\xfe")
    with pytest.raises(ManifestError, match="not UTF-8"):
        dotenv.read(path)
    path.write_text("#" * 70_000)
    with pytest.raises(ManifestError, match="70,000 bytes; at most 65,536"):
        dotenv.read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ManifestError, match="not a regular file"):
        dotenv.read(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(ManifestError, match="not a regular file"):
        dotenv.read(path)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ".env"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            found = dotenv.read(path)
        except ManifestError:
            return
    assert all(isinstance(value, str) for value in found.values())


def test_three_names_are_read_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "VAST_API_KEY=from-file\nHF_TOKEN=from-file\nPATH=/evil\nVAST_URL=https://evil.example\nLD_PRELOAD=/evil.so\n"
    )
    env = {"PATH": "/usr/bin", "HF_TOKEN": "from-environment", "CIVITAI_TOKEN": "", "VAST_API_KEY": ""}
    assert dotenv.with_tokens(tmp_path, env) == {
        "PATH": "/usr/bin", "HF_TOKEN": "from-environment", "CIVITAI_TOKEN": "", "VAST_API_KEY": "from-file",
    }  # fmt: skip
    assert env["VAST_API_KEY"] == "", "the argument must not be changed"
    assert "VAST_API_KEY" not in os.environ or os.environ["VAST_API_KEY"] != "from-file"


def test_the_example_has_all_names_and_no_values() -> None:
    assert dotenv.read(ROOT / ".env.example") == dict.fromkeys(dotenv.TOKENS, "")


def test_git_ignores_it() -> None:
    argv = ["git", "-C", str(ROOT), "check-ignore", "-q", ".env"]
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode == 128:
        pytest.skip("this is no git checkout")
    assert done.returncode == 0
    assert subprocess.run([*argv[:-1], ".env.example"], capture_output=True, check=False).returncode == 1


def test_it_is_in_no_build_context(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "context"
    env = {**os.environ, "GESSO_CACHE": str(tmp_path / "cache")}
    build.write_context(Selection(project, "sdxl", (), trial=True), out, env, lambda _: None)
    files = [path for path in out.rglob("*") if path.is_file()]
    wheels = [path for path in files if path.suffix == ".whl"]
    assert len(files) > 50
    assert len(wheels) == 1
    assert not [path for path in files if CANARY.encode() in path.read_bytes() or path.name == ".env"]
    with zipfile.ZipFile(wheels[0]) as wheel:
        assert not [name for name in wheel.namelist() if CANARY.encode() in wheel.read(name) or name.endswith(".env")]


class _StopError(Exception):
    """Raised to stop after the call that a test checks."""


def _recorder(seen: list[Mapping[str, str]]) -> Any:
    def fetch(*_: Any, env: Mapping[str, str], **__: Any) -> Any:
        seen.append(env)
        raise _StopError

    return fetch


def test_baking_and_fetching_have_the_tokens(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Mapping[str, str]] = []
    monkeypatch.setattr(bake, "fetch", _recorder(seen))
    models = build.prepare(Selection(project, "sdxl"))[0].models[:1]
    env = {"HOME": str(tmp_path), "GESSO_CACHE": str(tmp_path / "cache")}
    with pytest.raises(_StopError):
        bake.bake(project, models, env, lambda _: None, is_trial=False)
    monkeypatch.setattr(models_cli, "fetch", _recorder(seen))
    monkeypatch.chdir(project.root / "manifests")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    from gesso.cli.main import _parser

    options = _parser(models=True).parse_args(["fetch", "--arch", "sdxl", "--models", str(tmp_path), "--events"])
    with pytest.raises(_StopError):
        options.run(options)
    assert [env["HF_TOKEN"] for env in seen] == [CANARY, CANARY]
    assert CANARY not in os.environ.values()


def test_in_an_image_no_env_file_is_read(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Mapping[str, str]] = []
    monkeypatch.setattr(models_cli, "fetch", _recorder(seen))
    monkeypatch.setattr(models_cli, "_models", lambda *_: ())
    monkeypatch.chdir(project.root)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    from gesso.cli.main import _parser

    options = _parser(models=True).parse_args(["fetch", "--models", str(tmp_path), "--events"])
    with pytest.raises(_StopError):
        options.run(options)
    assert "HF_TOKEN" not in seen[0]


def test_vast_and_heal_have_the_key(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def of(cls: type[Api], env: Mapping[str, str], on_progress: Any) -> Api:
        seen.append(env["VAST_API_KEY"])
        raise PublishError("enough")

    monkeypatch.setattr(Api, "of", classmethod(of))
    requests = [remote_command.HealRequest(instance="7"), remote_command.HealRequest(instance="7", no_ssh=True)]
    for request in requests:
        with pytest.raises(PublishError, match="enough"):
            remote_command.heal(project, request, {}, lambda _: None)
    with pytest.raises(PublishError, match="enough"):
        command.run(project, VastRequest("offers"), {}, lambda _: None)
    assert seen == [CANARY] * 3
    assert issubclass(InstanceClient, Api)


def test_no_program_that_is_started_inherits_them(project: Project) -> None:
    tokens = dotenv.with_tokens(project.root, os.environ)
    assert tokens["VAST_API_KEY"] == CANARY or os.environ.get("VAST_API_KEY")
    assert CANARY not in proc.run(["env"]).stdout
