"""Errors of the disk that a look at it explains."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from gesso.models.local_disk import dangling_link, disk_error

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """A models folder on a network disk that is not mounted."""
    path = tmp_path / "models"
    path.symlink_to("/nas/of/somebody")
    return path


@pytest.mark.parametrize("below", ["", "vae", "vae/deep"])
def test_a_folder_below_a_link_to_nothing(link: Path, below: str) -> None:
    with pytest.raises(OSError) as raised:  # noqa: PT011 - which one is the kernel's and Python's business
        (link / below).mkdir(parents=True, exist_ok=True)
    error = disk_error(raised.value, "vae/a.safetensors")
    assert error.why == "in-the-way"
    assert error.message == f"vae/a.safetensors: {link} leads to /nas/of/somebody, which does not exist"
    assert error.next_step == "mount /nas/of/somebody, or remove the link, then run this again"


def test_a_file_below_a_link_to_nothing(link: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        (link / "vae.safetensors").open("rb")
    assert dangling_link(raised.value) == link


def test_a_relative_link_is_named_with_its_whole_target(tmp_path: Path) -> None:
    (tmp_path / "vae").symlink_to("../gone")
    error = disk_error(FileExistsError(errno.EEXIST, "File exists", str(tmp_path / "vae")), "x")
    assert f"leads to {tmp_path}/../gone, which" in error.message


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EIO])
def test_another_cause_is_not_hidden_by_a_link(link: Path, number: int) -> None:
    error = disk_error(OSError(number, os.strerror(number), str(link)), "x")
    assert error.message == f"x: {os.strerror(number)}"


def test_an_error_without_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "good").symlink_to(tmp_path / "real")
    for path in (tmp_path / "good", tmp_path / "nothing", None):
        error = OSError(errno.EEXIST, "File exists", None if path is None else str(path))
        assert dangling_link(error) is None
        assert disk_error(error, "x").message == "x: File exists"
