"""A small file is the old one or the new one, with the requested mode, and leaves no temporary file."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from gesso.runtime import atomic

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_new_file_has_its_mode(tmp_path: Path, mode: int) -> None:
    target = tmp_path / "b"
    target.write_bytes(b"old")
    before = os.umask(0o077)
    try:
        atomic.write_bytes(target, b"new", mode)
    finally:
        os.umask(before)
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == mode
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_the_old_file_stays_if_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "b"
    target.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic.write_bytes(target, b"newer")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
