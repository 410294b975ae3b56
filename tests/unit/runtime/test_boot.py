"""The boot: once, in order, and a second start does nothing for as long as the first one's supervisor lives."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.runtime import boot
from gesso.runtime.gate import caddy
from gesso.runtime.prepare import environment, orphans, workspace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record

# Takes the lock when it is told to; then, as boot does, becomes another program, which holds it from then on.
TAKE = """
import os, sys
from pathlib import Path
from gesso.runtime.boot import _lock
os.read(0, 1)
if sys.argv[2] == "busy":  # the descriptor that the lock is to have is somebody's already
    assert os.open(os.devnull, os.O_RDONLY) == 3
print(_lock(Path(sys.argv[1])), flush=True)
os.execv("/bin/sh", ["sh", "-c", "echo became; read line"])
"""


def _starter(path: Path, descriptor: str = "free") -> subprocess.Popen[str]:
    words = [sys.executable, "-c", TAKE, str(path), descriptor]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _taken(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    process.stdin.write("!")
    process.stdin.flush()
    return _said(process)


@pytest.mark.parametrize("descriptor", ["free", "busy"])
def test_the_lock_is_the_first_ones_while_it_lives(tmp_path: Path, descriptor: str) -> None:
    path = tmp_path / "boot.lock"
    with _starter(path, descriptor) as first, _starter(path) as second, _starter(path) as third:
        assert _taken(first) == "True"
        assert _said(first) == "became"
        assert _taken(second) == "False"
        first.communicate("\n")
        assert _taken(third) == "True"
        second.communicate("\n")
        third.communicate("\n")
    assert path.stat().st_mode & 0o777 == 0o600


def test_whether_one_runs(layout: Layout) -> None:
    assert not boot.runs(layout)
    layout.run.mkdir()
    path = layout.run / "boot.lock"
    with _starter(path) as first:
        assert _taken(first) == "True"
        assert boot.runs(layout)
        first.communicate("\n")
    assert path.exists()
    assert not boot.runs(layout)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every step of a boot only writes down that it was taken."""
    done: list[Any] = []

    def lock(path: Path) -> bool:
        done.append(path.name)
        return True

    monkeypatch.setattr(boot, "_lock", lock)
    monkeypatch.setattr(orphans, "sweep", lambda *_: done.append("sweep"))
    monkeypatch.setattr(workspace, "lay_out", lambda *_: done.append("workspace"))
    monkeypatch.setattr(caddy, "configure", lambda *_: done.append("gate"))
    monkeypatch.setattr(environment, "keep", lambda *_: done.append("environment"))
    monkeypatch.setattr(boot, "_hurry", lambda path: done.append(path.name))
    monkeypatch.setattr("os.execve", lambda _, argv, env: done.append((argv, env)))
    return done


@pytest.mark.parametrize("by_vast", [False, True])
def test_in_order(
    layout: Layout, record: Callable[..., Record], steps: list[Any], monkeypatch: pytest.MonkeyPatch, by_vast: bool,
    tmp_path: Path,
) -> None:  # fmt: skip
    launched = tmp_path / ".launch"
    if by_vast:
        launched.touch()
    monkeypatch.setattr(boot, "LAUNCHED_BY_VAST", launched)
    said: list[str] = []
    boot.boot(layout, record(), {"A": "b"}, said.append)
    argv = [
        str(layout.gesso / "venv/bin/supervisord"), "--configuration", str(layout.gesso / "etc/supervisord.conf"),
        *([] if by_vast else ["--nodaemon"]),
    ]  # fmt: skip
    kept = ["environment"] * by_vast
    assert steps == ["boot.lock", "sweep", "workspace", "gate", *kept, "supervisor.sock", (argv, {"A": "b"})]
    assert layout.run.is_dir()
    assert layout.logs.is_dir()
    assert "TRIAL" not in said[0]


KNOCK = """
import os, sys
from pathlib import Path
from gesso.runtime import boot
boot._hurry(Path(sys.argv[1]))
print("begun", flush=True)
os.wait()
"""


def test_somebody_knocks_at_supervisords_door(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with subprocess.Popen([sys.executable, "-c", KNOCK, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert _said(process) == "begun"
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(10)
            door.bind(str(path))
            door.listen()
            door.accept()[0].close()
        assert process.wait(10) == 0


def test_a_trial_says_so(layout: Layout, record: Callable[..., Record], steps: list[Any]) -> None:
    said: list[str] = []
    boot.boot(layout, record(trial=True), {}, said.append)
    assert "TRIAL" in said[0]


def test_a_second_start_does_nothing(
    layout: Layout, record: Callable[..., Record], steps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot, "_lock", lambda _: False)
    said: list[str] = []
    assert boot.boot(layout, record(), {}, said.append) == 0
    assert steps == []
    assert said == ["gesso runs already; nothing to do"]


@pytest.mark.parametrize(("module", "step"), [(workspace, "lay_out"), (caddy, "configure")])
def test_nothing_starts_where_a_step_fails(
    layout: Layout, record: Callable[..., Record], steps: list[Any], monkeypatch: pytest.MonkeyPatch, module: Any,
    step: str,
) -> None:  # fmt: skip
    def fail(*_: Any) -> None:
        raise CheckError("no")

    monkeypatch.setattr(module, step, fail)
    with pytest.raises(CheckError):
        boot.boot(layout, record(), {}, lambda _: None)
    assert not [done for done in steps if isinstance(done, tuple)]
