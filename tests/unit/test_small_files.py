"""Small files that are damaged: nothing blocks, nothing fills the memory, everything is an OSError or a ValueError."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gesso import small_files

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b'{"a": 1}')
    assert small_files.read(path) == b'{"a": 1}'
    assert small_files.read_json(path) == {"a": 1}


def test_pipes_devices_folders_and_nothing(tmp_path: Path) -> None:
    pipe, device, loop = tmp_path / "pipe", tmp_path / "device", tmp_path / "loop"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    loop.symlink_to(loop)
    before = len(list(os.scandir("/proc/self/fd")))
    for path in (pipe, device, loop, tmp_path, tmp_path / "none"):
        with pytest.raises(OSError, match=r"."):
            small_files.read(path)
    assert len(list(os.scandir("/proc/self/fd"))) == before


def test_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abcd")
    assert small_files.read(path, 4) == b"abcd"
    with pytest.raises(OSError, match="larger than expected"):
        small_files.read(path, 3)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_not_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        small_files.read_json(path)
