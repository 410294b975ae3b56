"""A private file is never half written, nor readable for others, whoever else writes it."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from gesso.runtime.gate import private_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_only_its_owner_reads_it(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "token"
    path.touch(0o666)
    before = os.umask(umask)
    try:
        private_file.write(path, "secret\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert private_file.read(path) == "secret"
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]


def test_bytes_that_are_no_text_are_kept(tmp_path: Path) -> None:
    private_file.write(tmp_path / "x", os.fsdecode(b"/\xff"))
    assert (tmp_path / "x").read_bytes() == b"/\xff"
    assert private_file.read(tmp_path / "x") == ""
    assert private_file.read(tmp_path / "missing") == ""


def test_an_error_names_the_file_and_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text("old")
    real = os.fdopen

    def full(handle: int, *_: object, **__: object) -> None:
        real(handle, "w").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(OSError, match="No space left") as raised:
        private_file.write(path, "new")
    assert raised.value.filename == str(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]
    assert path.read_text() == "old"


def test_several_writers_at_the_same_time(tmp_path: Path) -> None:
    """The agent and a heal repair the same file."""
    path, errors = tmp_path / "Caddyfile", list[BaseException | str]()
    private_file.write(path, "x" * 5000)

    def work() -> None:
        try:
            for _ in range(100):
                private_file.write(path, "x" * 5000)
                if len(private_file.read(path)) != 5000:
                    errors.append("half a file")
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_what_a_killed_writer_leaves_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = os.open

    def record(path: Path, *rest: int) -> int:
        seen.append(path.name)
        return real(path, *rest)

    monkeypatch.setattr(os, "open", record)
    private_file.write(tmp_path / "token", "x")
    private_file.write(tmp_path / "token", "x")
    assert all(name.startswith(".token.") for name in seen)
    assert len(set(seen)) == 2
