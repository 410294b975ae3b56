"""/etc/environment: what later sessions may see, no secrets, and other lines untouched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gesso.runtime.prepare import environment

if TYPE_CHECKING:
    from pathlib import Path

ENV = {
    "PATH": "/opt/venv/bin:/usr/bin", "PIP_CONSTRAINT": "/c.txt", "UV_CONSTRAINT": "/c.txt",
    "PUBLIC_IPADDR": "203.0.113.9", "VAST_TCP_PORT_8188": "40123",
    "CONTAINER_ID": "7", "GESSO_COMFY_ARGS": "--lowvram", "LANG": "C.UTF-8",
    "GESSO_ADMIN_ORIGIN": "https://admin.example", "GESSO_PUBLIC_URL": "https://paint.example",
}  # fmt: skip
SECRETS = {
    "GESSO_TOKEN": "a", "OPEN_BUTTON_TOKEN": "b", "JUPYTER_TOKEN": "c", "CONTAINER_API_KEY": "d", "HF_TOKEN": "e",
    "CIVITAI_TOKEN": "f", "GESSO_TLS_KEY": "g", "AWS_SECRET_ACCESS_KEY": "h", "MY_PASSWORD": "i", "VAST_API_KEY": "j",
    "PIP_INDEX_URL": "https://user:secret@mirror.example/simple", "NVIDIA_API_KEY": "k", "ANYTHING": "l",
}  # fmt: skip


def test_sessions_get_what_they_need_and_no_secret() -> None:
    assert environment.allowed({**ENV, **SECRETS}) == dict(sorted(ENV.items()))
    assert environment.allowed({"PIP_INDEX_URL": "https://mirror.example/simple"})


@pytest.mark.parametrize("value", ["a\nB=c", 'a"b', "a'b", "a\rb"])
def test_values_that_would_break_the_file_are_left_out(value: str) -> None:
    assert environment.allowed({"GESSO_COMFY_ARGS": value}) == {}


def test_other_lines_stay_and_the_gesso_block_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    path.write_text("MINE=1")
    environment.write(ENV, pytest.fail, path)
    first = path.read_text()
    assert first.startswith("MINE=1\n# gesso: begin\n")
    assert 'VAST_TCP_PORT_8188="40123"\n' in first
    environment.write(ENV, pytest.fail, path)
    assert path.read_text() == first
    path.write_text(first + "YOURS=2\n")
    environment.write({"LANG": "C"}, pytest.fail, path)
    assert path.read_text() == 'MINE=1\nYOURS=2\n# gesso: begin\nLANG="C"\n# gesso: end\n'
    assert [p.name for p in tmp_path.iterdir()] == ["environment"]


def test_a_write_failure_is_reported(tmp_path: Path) -> None:
    messages: list[str] = []
    environment.write(ENV, messages.append, tmp_path / "none" / "environment")
    assert "not written" in messages[0]
