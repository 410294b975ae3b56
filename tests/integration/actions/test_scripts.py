"""The scripts in the workflows and beside them: clean for shellcheck, and their behaviour."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.actions import rules
from tests.unit.actions.places import GITHUB, ROOT, SCRIPTS, WORKFLOWS

BIN = Path(sys.executable).parent  # shellcheck is installed there, too


def _shellcheck(script: str) -> str:
    argv = [str(BIN / "shellcheck"), "--shell=bash", "-"]
    return subprocess.run(argv, input=script, capture_output=True, text=True, check=False).stdout


def _runs() -> list[tuple[str, str]]:
    return [
        (f"{path.stem}-{job}", script)
        for path in WORKFLOWS
        for job, script in rules.scripts(rules.parse(path.read_text(encoding="utf-8")))
    ]


@pytest.mark.parametrize(("name", "script"), [pytest.param(*run, id=f"{n}-{run[0]}") for n, run in enumerate(_runs())])
def test_a_run_block_is_clean(name: str, script: str) -> None:
    assert _shellcheck(f"set -eo pipefail\n{script}") == ""


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_clean(path: Path) -> None:
    assert _shellcheck(path.read_text(encoding="utf-8")) == ""
    assert os.access(path, os.X_OK)


def test_shellcheck_detects_errors() -> None:
    assert "SC2086" in _shellcheck("a='x y'\necho $a\n")
    assert "error" in _shellcheck("if true; then\n")


def test_every_script_is_called() -> None:
    called = " ".join(script for _, script in _runs())
    assert [path.name for path in SCRIPTS if f".github/{path.name}" not in called] == []


# --- propose-locks.sh, with a real git and a fake gh that records its calls

GH = r"""#!/usr/bin/env bash
printf '%s\n' "$*" >>"$GH_LOG"
if [[ "$1 $2" == "pr list" ]]; then echo "$GH_OPEN"; fi
"""


class LockCheckout:
    """A remote repository, a checkout of it, and new locks in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work, self.remote, self.new = (
            folder, folder / "work", folder / "remote.git", folder / "work/out",
        )  # fmt: skip
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        self.env = {**os.environ, "PATH": path, "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", "BASE": "main",
                    "GH_LOG": str(folder / "gh"), "GH_OPEN": ""}  # fmt: skip
        (folder / "bin").mkdir()
        (folder / "bin/gh").write_text(GH)
        (folder / "bin/gh").chmod(0o755)
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.remote), at=folder)
        self.git("clone", "--quiet", str(self.remote), str(self.work), at=folder)
        locks = self.work / "manifests/locks"
        locks.mkdir(parents=True)
        (self.work / ".gitignore").write_text("/out/\n")
        (locks / "a.lock.json").write_text("old\n")
        (locks / "python.lock.txt").write_text("same\n")
        self.git("add", "-A")
        self.git("-c", "user.name=me", "-c", "user.email=me@localhost", "commit", "--quiet", "-m", "first")
        self.git("push", "--quiet", "origin", "HEAD:main")
        shutil.copytree(locks, self.new / "locks")
        (self.new / "locks/a.lock.json").write_text("new\n")
        (self.new / "summary.md").write_text("### Sources\n")

    def git(self, *arguments: str, at: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=at or self.work, env=self.env, capture_output=True, text=True, check=True
        )
        return done.stdout

    def propose(self, **env: str) -> subprocess.CompletedProcess[str]:
        argv = ["bash", str(GITHUB / "propose-locks.sh"), "out"]
        return subprocess.run(argv, cwd=self.work, env={**self.env, **env}, capture_output=True, text=True, check=False)

    @property
    def calls(self) -> list[str]:
        log = self.folder / "gh"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> LockCheckout:
    return LockCheckout(tmp_path)


def test_new_locks_become_a_pull_request(checkout: LockCheckout) -> None:
    done = checkout.propose()
    assert done.returncode == 0, done.stderr
    assert checkout.git("diff", "--name-only", "main", "locks", at=checkout.remote) == "manifests/locks/a.lock.json\n"
    assert checkout.git("show", "locks:manifests/locks/a.lock.json", at=checkout.remote) == "new\n"
    assert checkout.calls[0] == "auth setup-git"
    assert checkout.calls[2] == (
        "pr create --head locks --base main --title Locks: the newest that fit --body-file out/summary.md"
    )
    assert checkout.calls[3:] == ["workflow run check.yml --ref locks --raw-field real=true"]


def test_an_open_pull_request_is_updated(checkout: LockCheckout) -> None:
    """Also where its branch has other commits: last week's locks."""
    checkout.git("push", "--quiet", "origin", "HEAD:locks")
    (checkout.work / "manifests/locks/a.lock.json").write_text("last week\n")
    checkout.git("-c", "user.name=me", "-c", "user.email=me@localhost", "commit", "--quiet", "-am", "last week")
    checkout.git("push", "--quiet", "origin", "HEAD:locks")
    checkout.git("reset", "--quiet", "--hard", "origin/main")
    done = checkout.propose(GH_OPEN="7")
    assert done.returncode == 0, done.stderr
    assert checkout.git("rev-list", "--count", "main..locks", at=checkout.remote) == "1\n"
    assert [line for line in checkout.calls if line.startswith("pr ")][1:] == [
        "pr edit 7 --title Locks: the newest that fit --body-file out/summary.md"
    ]


@pytest.mark.parametrize("kind", ["name", "folder", "link"])
def test_other_files_are_refused(checkout: LockCheckout, kind: str) -> None:
    folder = checkout.new / "locks"
    if kind == "name":
        (folder / "run.sh").write_text("touch /\n")
    elif kind == "folder":
        (folder / "x.lock.txt").mkdir()
    else:
        (folder / "x.lock.txt").symlink_to("/etc/passwd")
    done = checkout.propose()
    assert done.returncode == 1
    assert "not a lock" in done.stderr
    assert checkout.calls == []
    assert checkout.git("branch", "--list", "locks", at=checkout.remote) == ""


def test_a_push_that_fails_opens_nothing(checkout: LockCheckout) -> None:
    shutil.rmtree(checkout.remote)
    assert checkout.propose().returncode != 0
    assert not [line for line in checkout.calls if line.startswith(("pr create", "workflow"))]


# --- make-room.sh


def test_make_room_runs_only_on_a_hosted_runner(tmp_path: Path) -> None:
    (tmp_path / "sudo").write_text('#!/bin/sh\ntouch "$0.ran"\n')
    (tmp_path / "sudo").chmod(0o755)
    env = {**{k: v for k, v in os.environ.items() if k != "GITHUB_ACTIONS"}, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    argv = ["bash", str(GITHUB / "make-room.sh"), "1"]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "only a hosted runner" in done.stderr
    assert not (tmp_path / "sudo.ran").exists()


@pytest.mark.parametrize(("free", "code"), [("29", 1), ("30", 0), ("31", 0)])
def test_too_little_space_is_an_error(tmp_path: Path, free: str, code: int) -> None:
    """With fakes of the programs that would delete files on this machine."""
    for name, script in {"sudo": "exit 0", "docker": "exit 0", "df": f"echo Avail; echo '  {free}'"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_ACTIONS": "true"}
    argv = ["bash", str(GITHUB / "make-room.sh"), "30"]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert f"{free} GB free" in done.stdout
    assert ("::error::" in done.stderr) == bool(code)
