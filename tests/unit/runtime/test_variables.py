"""Which program gets which variable: secrets stay in a private file, and what programs rely on is there."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from gesso.errors import CheckError
from gesso.runtime import variables

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.runtime.layout import Layout

PEM = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----"
SECRET = {
    "GESSO_TOKEN": "a", "OPEN_BUTTON_TOKEN": "b", "VAST_API_KEY": "c", "CONTAINER_API_KEY": "d", "HF_TOKEN": "e",
    "CIVITAI_TOKEN": "f", "JUPYTER_TOKEN": "g", "AWS_SECRET_ACCESS_KEY": "h", "MY_PASSWORD": "i", "OPENAI_KEY": "j",
    "DB_PASS": "k", "GITHUB_PAT": "l", "PIP_INDEX_URL": "https://me:pw@host/simple", "https_proxy": "http://u:p@proxy:3128",
    "GESSO_TLS_KEY": "/tls/key.pem", "PAIR": PEM,
}  # fmt: skip
PUBLIC = {
    "PATH": "/bin", "HF_ENDPOINT": "https://mirror.example", "TOKENIZERS_PARALLELISM": "false", "KEYMAP": "us",
    "PWD": "/x", "PIP_CONSTRAINT": "/opt/gesso/constraints.txt", "GESSO_TLS_CERT": "/tls/cert.pem",
    "GESSO_COMFY_ARGS": "--lowvram",
    "HTTP_PROXY": "http://proxy:3128", "PUBLIC_IPADDR": "203.0.113.9", "COMPASS": "n",
}  # fmt: skip


@pytest.mark.parametrize("name", SECRET)
def test_a_secret_is_private(name: str) -> None:
    assert variables.is_private(name, SECRET[name])
    assert variables.public(SECRET | PUBLIC) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_what_programs_need_is_not(name: str) -> None:
    assert not variables.is_private(name, PUBLIC[name])


def test_the_values_to_hide() -> None:
    assert variables.private_values({**SECRET, **PUBLIC, "EMPTY_TOKEN": ""}) == tuple(sorted(SECRET.values()))


def test_gessos_own_commands_get_everything(layout: Layout) -> None:
    layout.run.mkdir()
    env = {**SECRET, "ODD": os.fsdecode(b"\xff"), "HOME": "/root"}
    variables.store(layout, env)
    assert layout.environment.stat().st_mode & 0o777 == 0o600
    assert variables.stored(layout) == env
    assert variables.full(layout, {"HOME": "/home/me"}) == {**env, "HOME": "/home/me"}, "a session's own come first"


@pytest.mark.parametrize("text", [None, "", "[]", "nonsense", '{"A": 1}', "[" * 100_000, b"\xff"])
def test_a_damaged_file_is_no_environment(layout: Layout, text: str | bytes | None) -> None:
    layout.run.mkdir()
    if text is not None:
        layout.environment.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert variables.stored(layout) == {}


def test_comfyui_gets_no_secret_but_those_that_are_named(layout: Layout) -> None:
    layout.run.mkdir()
    variables.store(layout, {**SECRET, **PUBLIC})
    assert variables.for_comfyui(layout, PUBLIC) == PUBLIC
    assert variables.for_comfyui(layout, SECRET) == {}, "also from a session"
    env = {**PUBLIC, variables.PASSED: "OPENAI_KEY, HF_TOKEN  MISSING,"}
    assert variables.for_comfyui(layout, env) == {**env, "OPENAI_KEY": "j", "HF_TOKEN": "e"}


def test_pip_gets_its_own_settings_and_the_proxy() -> None:
    own = {name: SECRET[name] for name in ("PIP_INDEX_URL", "https_proxy")}
    assert variables.for_installer({**SECRET, **PUBLIC}) == {**PUBLIC, **own}


def test_a_new_boot_starts_from_the_original_environment() -> None:
    added = {"SUPERVISOR_ENABLED": "1", "GESSO_RUN": "/run/gesso", "GESSO_LOGS": "/var/log/gesso"}
    assert variables.for_boot({**SECRET, **added}) == SECRET


def test_proxies_are_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"no_proxy": "here"})
    variables.adopt_proxies({**SECRET, "no_proxy": "there", "HTTP_PROXY": "http://proxy"})
    assert os.environ == {"no_proxy": "here", "HTTP_PROXY": "http://proxy", "https_proxy": SECRET["https_proxy"]}


def test_a_complete_environment_stays_as_it_is(layout: Layout, tmp_path: Path) -> None:
    env = {"PATH": "/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "A": "b"}
    found = variables.completed(layout, env)
    assert found == {**env, "GESSO_RUN": str(layout.run), "GESSO_LOGS": str(layout.logs)}
    assert not layout.home.exists()


@pytest.mark.parametrize("home", [None, "", "/", "/nowhere"])
def test_without_a_home_there_is_one_in_the_workspace(layout: Layout, home: str | None) -> None:
    found = variables.completed(layout, {} if home is None else {"HOME": home})
    assert found["HOME"] == str(layout.workspace / "gesso/home")
    assert layout.home.stat().st_mode & 0o777 == 0o700
    assert "/usr/bin" in found["PATH"]


def test_without_a_writable_tmp_there_is_one_in_the_workspace(layout: Layout, tmp_path: Path) -> None:
    found = variables.completed(layout, {"HOME": str(tmp_path), "TMPDIR": "/nowhere"})
    assert found["TMPDIR"] == str(layout.workspace / "gesso/tmp")
    assert layout.temporary.is_dir()


def test_a_user_without_a_name_gets_one(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "USER" not in variables.completed(layout, {})
    monkeypatch.setattr(os, "geteuid", lambda: 1000730000)
    assert {"USER", "LOGNAME"} <= variables.completed(layout, {}).keys()
    assert variables.completed(layout, {"USER": "me"})["USER"] == "me"


def test_a_full_workspace_is_reported(layout: Layout) -> None:
    layout.state.write_text("a file in the way")
    with pytest.raises(CheckError, match="home"):
        variables.completed(layout, {})


def test_the_file_is_json(layout: Layout) -> None:
    layout.run.mkdir()
    variables.store(layout, {"A": "b"})
    assert json.loads(layout.environment.read_text()) == {"A": "b"}
