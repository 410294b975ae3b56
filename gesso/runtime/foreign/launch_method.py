"""Detect how this instance starts its ComfyUI: by supervisord, by systemd, or by hand."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gesso import proc as programs
from gesso.errors import GessoError
from gesso.runtime.foreign import discover
from gesso.runtime.foreign.paths import option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gesso.runtime.foreign.discover import Found, Process

_SHELLS = re.compile(r"(ba|da|a|z|k)?sh\Z")
_STATUS = re.compile(r"^(?P<name>\S+)\s+(?P<state>[A-Z]+)(?:\s+pid (?P<pid>\d+))?", re.MULTILINE)


@dataclass(frozen=True)
class LaunchMethod:
    """`name`: of the program or the unit; `control`: the command line that restarts it, up to the verb."""

    kind: Literal["supervisord", "systemd", "by hand", "first process"]
    name: str = ""
    control: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} ({self.name})" if self.name else self.kind

    @property
    def adverb(self) -> str:
        """The end of a sentence: started by supervisord (comfyui), by hand, as the first process."""
        return {"by hand": "by hand", "first process": "as the first process"}.get(self.kind, f"by {self}")


def detect(found: Found, proc: Path = Path("/proc"), systemd: Path = Path("/run/systemd/system")) -> LaunchMethod:
    """Return how ComfyUI was started, or (where it does not run) how it would be started."""
    by_pid = {process.pid: process for process in discover.processes(proc)}
    if found.process is None:
        return _detect_stopped(by_pid)
    ancestors = _ancestors(found.process, by_pid)
    for parent in ancestors:
        if _is_supervisord(parent):
            control = _supervisorctl(parent)
            name = _program_of({found.process.pid, *(p.pid for p in ancestors)}, _output([*control, "status"]))
            if control and name:
                return LaunchMethod("supervisord", name, control)
    if systemd.is_dir():
        unit = unit_of(_read(proc / str(found.process.pid) / "cgroup"))
        pids = {found.process.pid, *(p.pid for p in ancestors)}
        if unit and _output(["systemctl", "show", "--property=MainPID", "--value", unit]).strip() in map(str, pids):
            return LaunchMethod("systemd", unit, ("systemctl",))
    first = by_pid.get(1)
    if found.process.pid == 1 or (first is not None and found.process.parent == 1 and _runs_only_comfyui(first, proc)):
        return LaunchMethod("first process")
    return LaunchMethod("by hand")


def _detect_stopped(by_pid: Mapping[int, Process]) -> LaunchMethod:
    for process in by_pid.values():
        if _is_supervisord(process) and (control := _supervisorctl(process)):
            names = [m["name"] for m in _STATUS.finditer(_output([*control, "status"])) if "comfy" in m["name"].lower()]
            if len(names) == 1:
                return LaunchMethod("supervisord", names[0], control)
    return LaunchMethod("by hand")


def _ancestors(process: Process, by_pid: Mapping[int, Process]) -> list[Process]:
    """Return the ancestors of a process, the nearest first."""
    ancestors: list[Process] = []
    while (parent := by_pid.get(process.parent)) is not None and parent not in ancestors:
        ancestors.append(parent)
        process = parent
    return ancestors


def _is_supervisord(process: Process) -> bool:
    return any(os.path.basename(arg) == "supervisord" for arg in process.argv[:3])  # noqa: PTH119


def _supervisorctl(supervisord: Process) -> tuple[str, ...]:
    """Return the command that controls this supervisord: the one beside it, with its own configuration."""
    program = next(arg for arg in supervisord.argv if os.path.basename(arg) == "supervisord")  # noqa: PTH119
    beside = Path(supervisord.cwd) / Path(program).with_name("supervisorctl")
    control = str(beside) if os.access(beside, os.X_OK) else shutil.which("supervisorctl")
    if control is None:
        return ()
    config = option(supervisord.argv, "--configuration") or _short_option(supervisord.argv)
    return (control, "-c", str(Path(supervisord.cwd) / config)) if config else (control,)


def _short_option(argv: Sequence[str]) -> str:
    return next((argv[n + 1] for n, arg in enumerate(argv[:-1]) if arg == "-c"), "")


def _program_of(pids: set[int], status: str) -> str:
    """Return the program that is one of these processes, from the output of `supervisorctl status`. Pure."""
    return next((m["name"] for m in _STATUS.finditer(status) if m["pid"] and int(m["pid"]) in pids), "")


def unit_of(cgroup: str) -> str:
    """Return the systemd service that a process belongs to, from its cgroup. Pure."""
    paths = [line.rpartition(":")[2] for line in cgroup.splitlines()]
    names = [path.rpartition("/")[2] for path in paths]
    return next((name for name in names if name.endswith(".service")), "")


def _runs_only_comfyui(first: Process, proc: Path) -> bool:
    """Return whether process 1 is a shell with this single child: the instance may end when ComfyUI does."""
    children = _read(proc / "1" / "task" / "1" / "children").split()
    return _SHELLS.search(os.path.basename(first.exe)) is not None and len(children) == 1  # noqa: PTH119


def _output(argv: Sequence[str]) -> str:
    try:
        return programs.run(list(argv), timeout=20).stdout if argv[0] else ""
    except (GessoError, OSError):
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
