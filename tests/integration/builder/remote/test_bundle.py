"""The bundle: its Python, its content, and that another Python can run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from gesso.builder.remote import bundle
from gesso.builder.remote.bundle import Python
from gesso.errors import FetchError, ManifestError
from gesso.settings import Project, Selection

ROOT = Path(__file__).resolve().parents[4]
PYTHON = Python("/usr/bin/python3", (3, 13, 5), "cpython", "x86_64", 41)


def python(version: tuple[int, int, int] = (3, 12, 3), implementation: str = "cpython", glibc: int = 36) -> Python:
    return Python("/usr/bin/python3", version, implementation, "x86_64", glibc)


def test_the_first_supported_python_is_chosen() -> None:
    old, supported, newer = python((3, 10, 12)), python((3, 11, 0)), python((3, 14, 0))
    assert bundle.choose([old, supported, newer]) is supported
    for none in ([], [old, python((3, 8, 0))], [python(implementation="pypy")]):
        with pytest.raises(ManifestError, match=r"3\.11 or newer is required") as raised:
            bundle.choose(none)
        assert all(str(each) in raised.value.message for each in none)


def test_the_minimum_is_the_projects_own() -> None:
    assert f'requires-python = ">={".".join(map(str, bundle.MINIMUM))}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("glibc", "platform"),
    [(41, "x86_64-manylinux_2_40"), (36, "x86_64-manylinux_2_36"), (30, "x86_64-manylinux_2_28"),
     (12, "x86_64-manylinux_2_17"), (0, "x86_64-unknown-linux-musl")],
)  # fmt: skip
def test_platforms_by_their_libc(glibc: int, platform: str) -> None:
    assert python(glibc=glibc).platform() == platform


def test_wheels_for_an_older_libc_fit_and_for_a_newer_one_do_not() -> None:
    tags = python(glibc=31).tags()
    assert {"manylinux_2_31_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"} <= set(tags)
    assert "manylinux_2_32_x86_64" not in tags
    assert python(glibc=0).tags() == ["musllinux_1_2_x86_64", "musllinux_1_1_x86_64"]


def test_all_libraries_are_locked() -> None:
    lock = (ROOT / "manifests/locks/gesso.lock.txt").read_text()
    assert [name for name in bundle._LIBRARIES if f"\n{name}==" not in lock] == []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    """A bundle for this very Python."""
    here = Python(sys.executable, sys.version_info[:3], "cpython", os.uname().machine, 36)
    selection = Selection(Project(ROOT), "sdxl", (), trial=True)
    folder = tmp_path_factory.mktemp("bundle") / "x"
    env = {"GESSO_CACHE": str(tmp_path_factory.mktemp("cache"))}
    try:
        return bundle.build_bundle(selection, here, PYTHON, folder, env, lambda _: None)
    except FetchError as error:
        pytest.skip(f"not run, no package index: {error.message}")


def test_content(built: bundle.Bundle) -> None:
    record = json.loads((built.folder / "build.json").read_text())
    assert set(record["spares"]) == {"comfyui-tooling-nodes"}
    (wheel,) = (built.folder / "wheels").iterdir()
    assert "cp313" in wheel.name
    assert f"-{record['python']['pins']['sqlalchemy']}-" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
    assert {path.name for path in (built.folder / "workflows").iterdir()} == set(record["workflows"])
    assert (built.folder / "lib/gesso/runtime").is_dir()
    assert not (built.folder / "lib/gesso/builder").exists(), "the builder is not sent to instances"


def test_it_runs_with_its_own_libraries_alone(built: bundle.Bundle, tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-S", "-B", str(built.folder / "heal.py"), "--comfyui", str(tmp_path), "--dry-run"]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    )
    assert done.returncode == 1, done.stderr
    assert "there is no ComfyUI in it" in done.stderr


def test_the_digest_is_of_the_content_alone(built: bundle.Bundle, tmp_path: Path) -> None:
    assert bundle.digest_of(built.folder) == built.digest
    size = built.pack(tmp_path / "x.tar.gz")
    assert size == (tmp_path / "x.tar.gz").stat().st_size
    with tarfile.open(tmp_path / "x.tar.gz") as archive:
        assert {(member.uid, member.uname) for member in archive} == {(0, "")}
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)  # Debian 12 has none
        archive.extractall(tmp_path / "unpacked")
    assert bundle.digest_of(tmp_path / "unpacked") == built.digest
    (tmp_path / "unpacked/build.json").write_text("{}")
    assert bundle.digest_of(tmp_path / "unpacked") != built.digest
