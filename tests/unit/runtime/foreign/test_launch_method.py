"""How ComfyUI was started: detected from a fake /proc, and a supervisorctl that prints what the real one does."""

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


def test_supervisord_is_detected_also_through_a_script(tmp_path: Path, proc: Path) -> None:
    home = comfyui(tmp_path / "ComfyUI")
    process(proc, 5, _supervisord(tmp_path, STATUS), tmp_path)
    process(proc, 41, ["bash", "run.sh"], home, exe="/usr/bin/bash", parent=5)
    process(proc, 42, ["python", "main.py"], home, parent=41)
    method = launch_method.detect(_found(proc), proc, tmp_path / "none")
    assert (method.kind, method.name) == ("supervisord", "comfyui")
    assert method.control == (f"{tmp_path}/bin/supervisorctl", "-c", "/etc/s.conf")
    assert str(method) == "supervisord (comfyui)"


def test_a_child_of_supervisord_that_is_not_its_program(tmp_path: Path, proc: Path) -> None:
    """Started by hand in a terminal that a supervisord program serves: restarting that program would be wrong."""
    home = comfyui(tmp_path / "ComfyUI")
    process(proc, 5, _supervisord(tmp_path, "other RUNNING   pid 77, uptime 0:01:00\n"), tmp_path)
    process(proc, 42, ["python", "main.py"], home, parent=5)
    assert launch_method.detect(_found(proc), proc, tmp_path / "none").kind == "by hand"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (STATUS.replace("RUNNING   pid 41", "EXITED "), "supervisord"),
        ("x\n", "by hand"),
        ("comfy-a STOPPED\ncomfy-b STOPPED\n", "by hand"),
    ],
)
def test_a_stopped_comfyui(tmp_path: Path, proc: Path, status: str, kind: str) -> None:
    process(proc, 5, _supervisord(tmp_path, status), tmp_path)
    assert launch_method.detect(Found(comfyui(tmp_path / "ComfyUI"), "p"), proc, tmp_path / "none").kind == kind


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
    ("parent", "first", "children", "kind"),
    [
        (1, "/usr/bin/bash", "42", "first process"),  # a script that waits for it
        (1, "/usr/bin/dash", "42 50", "by hand"),  # a script that waits for something else
        (1, "/usr/bin/sleep", "42", "by hand"),
        (1, "/usr/bin/tini", "42", "by hand"),
        (9, "/usr/bin/bash", "9", "by hand"),
    ],
)
def test_whether_the_instance_ends_with_comfyui(
    tmp_path: Path, proc: Path, parent: int, first: str, children: str, kind: str
) -> None:
    home = comfyui(tmp_path / "ComfyUI")
    process(proc, 1, ["first"], tmp_path, exe=first, parent=0)
    (proc / "1/task/1").mkdir(parents=True)
    (proc / "1/task/1/children").write_text(f"{children} ")
    process(proc, 42, ["python", "main.py"], home, parent=parent)
    assert launch_method.detect(_found(proc), proc, tmp_path / "none").kind == kind


def test_the_first_process_itself(tmp_path: Path, proc: Path) -> None:
    process(proc, 1, ["python", "main.py"], comfyui(tmp_path / "ComfyUI"), parent=0)
    assert launch_method.detect(_found(proc), proc, tmp_path / "none").kind == "first process"


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (launch_method.LaunchMethod("supervisord", "comfyui"), "by supervisord (comfyui)"),
        (launch_method.LaunchMethod("systemd", "comfyui.service"), "by systemd (comfyui.service)"),
        (launch_method.LaunchMethod("by hand"), "by hand"),
        (launch_method.LaunchMethod("first process"), "as the first process"),
    ],
)
def test_a_sentence_about_it(method: launch_method.LaunchMethod, words: str) -> None:
    assert method.adverb == words
