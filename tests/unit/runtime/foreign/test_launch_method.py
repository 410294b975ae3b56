"""How ComfyUI was started: told from a /proc of our own making, and by a supervisorctl that answers as the real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gesso.runtime.foreign import discover, launch_method
from gesso.runtime.foreign.discover import Found
from tests.unit.runtime.foreign.test_discover import comfyui, process, python

if TYPE_CHECKING:
    from pathlib import Path

STATUS = """\
comfyui                          RUNNING   pid 41, uptime 0:00:05
jupyter                          RUNNING   pid 12, uptime 1 day, 2:00:05
syncthing                        STOPPED   Not started
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    folder.mkdir()
    return folder


def _found(proc: Path) -> Found:
    return discover.find("", proc, ())


def _supervisord(tmp_path: Path, status: str) -> list[str]:
    control = tmp_path / "bin/supervisorctl"
    python(control)
    control.write_text(f"#!/bin/sh\n[ \"$1 $2 $3\" = '-c /etc/s.conf status' ] && cat <<E\n{status}E\n")
    return ["/usr/bin/python3", f"{tmp_path}/bin/supervisord", "-c", "/etc/s.conf"]


def test_by_supervisord_also_through_a_script(tmp_path: Path, proc: Path) -> None:
    home = comfyui(tmp_path / "ComfyUI")
    process(proc, 5, _supervisord(tmp_path, STATUS), tmp_path)
    process(proc, 41, ["bash", "run.sh"], home, exe="/usr/bin/bash", parent=5)
    process(proc, 42, ["python", "main.py"], home, parent=41)
    how = launch_method.of(_found(proc), proc, tmp_path / "none")
    assert (how.how, how.name) == ("supervisord", "comfyui")
    assert how.control == (f"{tmp_path}/bin/supervisorctl", "-c", "/etc/s.conf")
    assert str(how) == "supervisord (comfyui)"


def test_below_a_supervisord_that_does_not_know_it(tmp_path: Path, proc: Path) -> None:
    """Started by hand in a terminal that a program of supervisord's gives: restarting that one would be wrong."""
    home = comfyui(tmp_path / "ComfyUI")
    process(proc, 5, _supervisord(tmp_path, "other RUNNING   pid 77, uptime 0:01:00\n"), tmp_path)
    process(proc, 42, ["python", "main.py"], home, parent=5)
    assert launch_method.of(_found(proc), proc, tmp_path / "none").how == "by hand"


@pytest.mark.parametrize(
    ("status", "how"),
    [
        (STATUS.replace("RUNNING   pid 41", "EXITED "), "supervisord"),
        ("x\n", "by hand"),
        ("comfy-a STOPPED\ncomfy-b STOPPED\n", "by hand"),
    ],
)
def test_one_that_does_not_run(tmp_path: Path, proc: Path, status: str, how: str) -> None:
    process(proc, 5, _supervisord(tmp_path, status), tmp_path)
    assert launch_method.of(Found(comfyui(tmp_path / "ComfyUI"), "p"), proc, tmp_path / "none").how == how


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/comfyui.service\n", "comfyui.service"),
        ("12:pids:/x\n1:name=systemd:/system.slice/comfy@1.service\n", "comfy@1.service"),
        ("0::/user.slice/user-0.slice/session-1.scope\n", ""),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_the_unit_of_a_process(cgroup: str, unit: str) -> None:
    assert launch_method.unit_of(cgroup) == unit


@pytest.mark.parametrize(
    ("parent", "first", "children", "how"),
    [
        (1, "/usr/bin/bash", "42", "first process"),  # a script that waits for it
        (1, "/usr/bin/dash", "42 50", "by hand"),  # a script that waits for something else
        (1, "/usr/bin/sleep", "42", "by hand"),
        (1, "/usr/bin/tini", "42", "by hand"),
        (9, "/usr/bin/bash", "9", "by hand"),
    ],
)
def test_what_the_instance_lives_by(
    tmp_path: Path, proc: Path, parent: int, first: str, children: str, how: str
) -> None:
    home = comfyui(tmp_path / "ComfyUI")
    process(proc, 1, ["first"], tmp_path, exe=first, parent=0)
    (proc / "1/task/1").mkdir(parents=True)
    (proc / "1/task/1/children").write_text(f"{children} ")
    process(proc, 42, ["python", "main.py"], home, parent=parent)
    assert launch_method.of(_found(proc), proc, tmp_path / "none").how == how


def test_the_first_process_itself(tmp_path: Path, proc: Path) -> None:
    process(proc, 1, ["python", "main.py"], comfyui(tmp_path / "ComfyUI"), parent=0)
    assert launch_method.of(_found(proc), proc, tmp_path / "none").how == "first process"
