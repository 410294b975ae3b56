"""Fixtures of the builder's tests: git without the user's settings, local repositories, fake programs."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gesso.builder.image.build import prepare
from gesso.builder.publish.published import Published
from gesso.settings import Project, Selection

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.builder.lock.lock_files import Locked
    from gesso.manifest.schema import Manifest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def git_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set an empty global git configuration for the test, and no other settings."""
    path = tmp_path / "gitconfig"
    path.touch()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(path))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    return path


@pytest.fixture
def project() -> Project:
    """This checkout: its real manifests and locks."""
    return Project(ROOT)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Put a shell script on PATH, before the real program of that name; it may write to the folder `$LOG`.

    Returns that folder.
    """
    folder, log = tmp_path / "programs", tmp_path / "log"
    folder.mkdir()
    log.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(log))

    def put(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        return log

    return put


@pytest.fixture(scope="session")
def git() -> Callable[..., str]:
    """Run git in a folder and return its output."""
    authors = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    dates = {f"GIT_{role}_DATE": "2026-01-01T00:00:00Z" for role in ("AUTHOR", "COMMITTER")}

    def run(folder: Path, *args: str) -> str:
        command = ["git", "-C", str(folder), *args]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, **authors, **dates}
        )
        return done.stdout.strip()

    return run


@pytest.fixture(scope="session")
def template(
    tmp_path_factory: pytest.TempPathFactory, git: Callable[..., str]
) -> Callable[[tuple[tuple[str, bytes], ...]], Path]:
    """Make a repository with one commit on `main`, once for all tests that need the same."""

    @functools.cache
    def make(files: tuple[tuple[str, bytes], ...]) -> Path:
        folder = tmp_path_factory.mktemp("template")
        git(folder, "init", "--quiet", "--initial-branch=main", "--template=")
        for file, content in files:
            link, _, target = file.partition(" -> ")
            path = folder / link
            path.parent.mkdir(parents=True, exist_ok=True)
            if target:
                path.symlink_to(target)
                continue
            path.write_bytes(content)
            path.chmod(0o755 if file.endswith(".sh") else 0o644)
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message=one")
        return folder

    return make


@pytest.fixture
def repository(
    tmp_path: Path, template: Callable[[tuple[tuple[str, bytes], ...]], Path]
) -> Callable[[str, dict[str, bytes]], Path]:
    """Return a repository with one commit on `main`; files named *.sh are executable, `x -> y` is a link."""

    def make(name: str, files: dict[str, bytes]) -> Path:
        folder = tmp_path / "upstream" / name
        shutil.copytree(template(tuple(files.items())), folder, symlinks=True)
        return folder

    return make


@pytest.fixture(scope="session")
def image() -> Published:
    return Published("ghcr.io/someone/gesso", f"sha256:{'ab' * 32}", ("sdxl",), 3_500_000_000, 6_900_000_000)


@pytest.fixture(scope="session")
def sdxl() -> tuple[Manifest, Locked]:
    return prepare(Selection(Project(ROOT), "sdxl"))
