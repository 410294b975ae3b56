"""Find a ComfyUI: in a fake /proc, and among this machine's processes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gesso.runtime.foreign import discover
from gesso.runtime.foreign.discover import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def comfyui(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("main.py", "folder_paths.py", "nodes.py", "server.py"):
        (folder / name).write_text("import time; time.sleep(60)\n")
    return folder


def process(
    proc: Path, pid: int, argv: list[str], cwd: Path, exe: str = "/usr/bin/python3.13", parent: int = 1,
    env: str = "",
) -> None:  # fmt: skip
    entry = proc / str(pid)
    entry.mkdir(parents=True)
    (entry / "cmdline").write_bytes(b"".join(arg.encode() + b"\0" for arg in argv))
    (entry / "stat").write_text(f"{pid} (py (thon) x) S {parent} {pid} {pid} 0")
    (entry / "cwd").symlink_to(cwd)
    (entry / "exe").symlink_to(exe)
    (entry / "environ").write_bytes(env.encode())


def python(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_a_running_comfyui_is_found_by_its_arguments(tmp_path: Path) -> None:
    proc, home = tmp_path / "proc", comfyui(tmp_path / "ComfyUI")
    own = python(tmp_path / "venv/bin/python")
    process(proc, 40, ["../venv/bin/python", "main.py", "--port", "8000"], home, env="A=1\0PATH=/bin\0")
    process(proc, 41, ["bash", "-c", "python main.py"], home, exe="/usr/bin/bash")
    process(proc, 42, ["python", "other.py"], home)
    found = discover.find("", proc, ())
    assert (found.folder, found.python) == (home, own)
    assert found.process is not None
    assert (found.process.pid, found.process.env) == (40, {"A": "1", "PATH": "/bin"})


def test_a_python_called_by_name_is_found_on_the_path_of_its_process(tmp_path: Path) -> None:
    proc, home = tmp_path / "proc", comfyui(tmp_path / "ComfyUI")
    own = python(tmp_path / "env/bin/python3")
    process(proc, 40, ["python3", str(home / "main.py")], tmp_path, env=f"PATH=/nowhere:{tmp_path}/env/bin\0")
    assert discover.find("", proc, ()).python == own


def test_where_its_python_is_missing_proc_exe_counts(tmp_path: Path) -> None:
    proc, home = tmp_path / "proc", comfyui(tmp_path / "ComfyUI")
    process(proc, 40, ["/gone/python", "main.py"], home)
    assert discover.find("", proc, ()).python == "/usr/bin/python3.13"


def test_its_children_do_not_count_as_another_comfyui(tmp_path: Path) -> None:
    proc, home = tmp_path / "proc", comfyui(tmp_path / "ComfyUI")
    for pid, parent in ((40, 50), (41, 50), (50, 1)):
        process(proc, pid, ["/x/python", "main.py"], home, parent=parent)
    found = discover.find("", proc, ())
    assert found.process is not None
    assert found.process.pid == 50


def test_of_two_that_run_one_must_be_selected(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    homes = [comfyui(tmp_path / name) for name in ("one", "two")]
    for pid, home in enumerate(homes, 40):
        process(proc, pid, ["python", "main.py"], home)
    with pytest.raises(NotFoundError, match="more than one ComfyUI runs") as raised:
        discover.find("", proc, ())
    assert raised.value.next_step == "select one: --comfyui DIR"
    found = discover.find(str(homes[1]), proc, ())
    assert found.process is not None
    assert found.process.pid == 41


def test_a_stopped_comfyui_is_found_in_a_known_folder_with_its_venv(tmp_path: Path) -> None:
    proc, home = tmp_path / "proc", comfyui(tmp_path / "ComfyUI")
    proc.mkdir()
    (home / "venv/lib/python3.12/site-packages/aiohttp").mkdir(parents=True)
    own = python(home / "venv/bin/python")
    link = tmp_path / "link"
    link.symlink_to(home)
    found = discover.find("", proc, (str(home), str(link), "/nowhere"))
    assert (found.folder, found.python, found.process) == (home, own, None)
    assert discover.find(str(home), proc, ()).process is None


def test_no_comfyui_and_a_folder_without_one(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    with pytest.raises(NotFoundError, match="no ComfyUI runs here") as raised:
        discover.find("", tmp_path / "proc", ())
    assert "--comfyui" in raised.value.next_step
    with pytest.raises(NotFoundError, match="there is no ComfyUI in it"):
        discover.find(str(tmp_path), tmp_path / "proc", ())
    half = comfyui(tmp_path / "half")
    (half / "nodes.py").unlink()
    assert not discover.is_comfyui(half)


def test_a_real_process(tmp_path: Path) -> None:
    home = comfyui(tmp_path / "ComfyUI")
    with subprocess.Popen([sys.executable, "main.py"], cwd=home, env={**os.environ, "MINE": "1"}) as alive:
        try:
            while not (mine := [p for p in discover.running() if p.pid == alive.pid]):
                assert alive.poll() is None
        finally:
            alive.kill()
    assert mine[0].main == home / "main.py"
    assert mine[0].python == sys.executable
    assert mine[0].env["MINE"] == "1"
    assert mine[0].parent == os.getpid()


@pytest.fixture
def as_other_user() -> Iterator[Callable[[], None]]:
    """Continue as a user other than root, whoever runs the tests."""
    was = os.geteuid()
    yield lambda: None if was else os.seteuid(65534)
    os.seteuid(was)


def test_an_unreadable_venv_is_skipped(tmp_path: Path, as_other_user: Callable[[], None]) -> None:
    """Such as root's, for another user."""
    (tmp_path / "locked/venv/lib/python3.13/site-packages/aiohttp").mkdir(parents=True)
    python = tmp_path / "locked/venv/bin/python"
    python.parent.mkdir()
    python.touch(mode=0o755)
    venvs = [str(tmp_path / "locked/venv")]
    assert discover.python_of(tmp_path, venvs) == str(python)
    (tmp_path / "locked").chmod(0)
    as_other_user()
    assert discover.python_of(tmp_path, venvs).endswith("/python3")


def test_the_result_for_the_host_has_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = comfyui(tmp_path / "ComfyUI")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("heal-whole", "heal-cut"):
        (tmp_path / ".cache/gesso" / name).mkdir(parents=True)
    (tmp_path / ".cache/gesso/heal-whole/heal.py").touch()
    result = discover.describe(str(home))
    assert result["kept"] == ["whole"]
    assert set(result) == {"home", "kept", "folder", "python", "pid"}
    assert set(discover.describe(str(tmp_path))) == {"home", "kept", "error", "next"}
