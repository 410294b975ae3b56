"""The boot: once, in order; a second start does nothing while the first supervisor is alive."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.runtime import boot, variables
from gesso.runtime.gate import caddy
from gesso.runtime.prepare import environment, orphans, workspace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record

# Takes the lock on request; then, like boot, becomes another program, which holds it from then on.
TAKE = """
import os, sys
from pathlib import Path
from gesso.runtime.boot import _lock
os.read(0, 1)
if sys.argv[2] == "busy":  # the lock's descriptor is already in use
    assert os.open(os.devnull, os.O_RDONLY) == 3
print(_lock(Path(sys.argv[1])), flush=True)
os.execv("/bin/sh", ["sh", "-c", "echo became; read line"])
"""


def _starter(path: Path, descriptor: str = "free") -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", TAKE, str(path), descriptor]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _take(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    process.stdin.write("!")
    process.stdin.flush()
    return _line(process)


@pytest.mark.parametrize("descriptor", ["free", "busy"])
def test_the_first_one_holds_the_lock_while_it_lives(tmp_path: Path, descriptor: str) -> None:
    path = tmp_path / "boot.lock"
    with _starter(path, descriptor) as first, _starter(path) as second, _starter(path) as third:
        assert _take(first) == "True"
        assert _line(first) == "became"
        assert _take(second) == "False"
        first.communicate("\n")
        assert _take(third) == "True"
        second.communicate("\n")
        third.communicate("\n")
    assert path.stat().st_mode & 0o777 == 0o600


def test_whether_a_supervisor_is_running(layout: Layout) -> None:
    assert not boot.is_running(layout)
    layout.run.mkdir()
    path = layout.run / "boot.lock"
    with _starter(path) as first:
        assert _take(first) == "True"
        assert boot.is_running(layout)
        first.communicate("\n")
    assert path.exists()
    assert not boot.is_running(layout)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace every step of a boot by one that only records its call."""
    done: list[Any] = []

    def lock(path: Path) -> bool:
        done.append(path.name)
        return True

    monkeypatch.setattr(boot, "_lock", lock)
    monkeypatch.setattr(orphans, "end_orphans", lambda *_: done.append("orphans"))
    monkeypatch.setattr(workspace, "lay_out", lambda *_: done.append("workspace"))
    monkeypatch.setattr(caddy, "configure", lambda *_, **__: done.append("gate"))
    monkeypatch.setattr(environment, "write", lambda *_: done.append("environment"))
    monkeypatch.setattr(boot, "_wake_supervisord", lambda path: done.append(path.name))
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
    messages: list[str] = []
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    env = {"A": "b", "HOME": str(tmp_path), "PATH": "/bin", "USER": "me", "LOGNAME": "me"}
    boot.boot(layout, record(), {**env, "GESSO_TOKEN": "secret-secret-secret"}, messages.append)
    argv = [
        str(layout.gesso / "venv/bin/supervisord"), "--configuration", str(layout.gesso / "etc/supervisord.conf"),
        *([] if by_vast else ["--nodaemon"]),
    ]  # fmt: skip
    written = ["environment"] * by_vast
    given = {**env, "GESSO_RUN": str(layout.run), "GESSO_LOGS": str(layout.logs)}
    assert steps == ["boot.lock", "orphans", "workspace", "gate", *written, "supervisor.sock", (argv, given)]
    assert variables.stored(layout) == {**given, "GESSO_TOKEN": "secret-secret-secret"}
    assert "TRIAL" not in messages[0]


CONNECT = """
import os, sys
from pathlib import Path
from gesso.runtime import boot, variables
boot._wake_supervisord(Path(sys.argv[1]))
print("begun", flush=True)
os.wait()
"""


def test_a_child_connects_to_supervisord(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with subprocess.Popen([sys.executable, "-c", CONNECT, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert _line(process) == "begun"
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(10)
            server.bind(str(path))
            server.listen()
            server.accept()[0].close()
        assert process.wait(10) == 0


def test_only_root_tells_supervisord_to_stay_root(
    layout: Layout, record: Callable[..., Record], steps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for user in (0, 1000):
        monkeypatch.setattr("os.geteuid", lambda user=user: user)
        boot.boot(layout, record(), {}, lambda _: None)
        assert ("--user" in steps[-1][0]) == (user == 0)


def test_its_folders_are_its_own(layout: Layout, record: Callable[..., Record], steps: list[Any]) -> None:
    """The image's are open to every user: an instance may run as any."""
    for folder in (layout.run, layout.logs):
        folder.mkdir()
        folder.chmod(0o1777)
    boot.boot(layout, record(), {}, lambda _: None)
    assert [folder.stat().st_mode & 0o7777 for folder in (layout.run, layout.logs)] == [0o711, 0o755]


@pytest.mark.parametrize("name", ["run", "logs"])
def test_a_folder_that_cannot_be_created(
    layout: Layout, record: Callable[..., Record], steps: list[Any], name: str
) -> None:
    getattr(layout, name).write_text("a file in the way")
    with pytest.raises(CheckError, match=rf"{name}: File exists \(user \d+\)") as raised:
        boot.boot(layout, record(), {}, lambda _: None)
    assert "--tmpfs /run" in raised.value.next_step


def test_a_trial_is_announced(layout: Layout, record: Callable[..., Record], steps: list[Any]) -> None:
    messages: list[str] = []
    boot.boot(layout, record(trial=True), {}, messages.append)
    assert "TRIAL" in messages[0]


def test_a_second_start_does_nothing(
    layout: Layout, record: Callable[..., Record], steps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot, "_lock", lambda _: False)
    messages: list[str] = []
    assert boot.boot(layout, record(), {}, messages.append) == 0
    assert steps == []
    assert messages == ["gesso is already running; nothing to do"]


@pytest.mark.parametrize(("module", "step"), [(workspace, "lay_out"), (caddy, "configure")])
def test_nothing_starts_if_a_step_fails(
    layout: Layout, record: Callable[..., Record], steps: list[Any], monkeypatch: pytest.MonkeyPatch, module: Any,
    step: str,
) -> None:  # fmt: skip
    def fail(*_: Any, **__: Any) -> None:
        raise CheckError("no")

    monkeypatch.setattr(module, step, fail)
    with pytest.raises(CheckError):
        boot.boot(layout, record(), {}, lambda _: None)
    assert not [done for done in steps if isinstance(done, tuple)]


@pytest.mark.parametrize(
    ("limits", "wanted", "reported"),
    [
        ((1024, 524288), (65536, 524288), False), ((1024, 1024), None, True), ((256, 512), (512, 512), True),
        ((1024, resource.RLIM_INFINITY), (65536, resource.RLIM_INFINITY), False),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, False), ((70000, 70000), None, False),
    ],
)  # fmt: skip
def test_open_files(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], wanted: tuple[int, int] | None, reported: bool
) -> None:
    set_to: list[tuple[int, int]] = []
    said: list[str] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: set_to.append(pair))
    boot.raise_open_files(said.append)
    assert set_to == ([] if wanted is None else [wanted])
    assert bool(said) == reported
    assert all("--ulimit nofile=65536" in text for text in said)
