"""How this instance starts its ComfyUI: by supervisord, by systemd, or by hand. Found out, never assumed."""

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
class Manner:
    """`name`: of the program or the unit; `control`: the command that restarts such a one, as far as its verb."""

    how: Literal["supervisord", "systemd", "by hand", "first process"]
    name: str = ""
    control: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.how} ({self.name})" if self.name else self.how


def of(found: Found, proc: Path = Path("/proc"), systemd: Path = Path("/run/systemd/system")) -> Manner:
    """Tell by which manner ComfyUI runs, or (where it does not) by which it would be started."""
    every = {process.pid: process for process in discover.processes(proc)}
    if found.process is None:
        return _of_stopped(every)
    above = _chain(found.process, every)
    for parent in above:
        if _is_supervisord(parent):
            control = _supervisorctl(parent)
            name = _name_of({found.process.pid, *(p.pid for p in above)}, _say([*control, "status"]))
            if control and name:
                return Manner("supervisord", name, control)
    if systemd.is_dir():
        unit = unit_of(_read(proc / str(found.process.pid) / "cgroup"))
        pids = {found.process.pid, *(p.pid for p in above)}
        if unit and _say(["systemctl", "show", "--property=MainPID", "--value", unit]).strip() in map(str, pids):
            return Manner("systemd", unit, ("systemctl",))
    first = every.get(1)
    if found.process.pid == 1 or (first is not None and found.process.parent == 1 and _waits_for_it(first, proc)):
        return Manner("first process")
    return Manner("by hand")


def _of_stopped(every: Mapping[int, Process]) -> Manner:
    for process in every.values():
        if _is_supervisord(process) and (control := _supervisorctl(process)):
            names = [m["name"] for m in _STATUS.finditer(_say([*control, "status"])) if "comfy" in m["name"].lower()]
            if len(names) == 1:
                return Manner("supervisord", names[0], control)
    return Manner("by hand")


def _chain(process: Process, every: Mapping[int, Process]) -> list[Process]:
    """Give the processes above one, the nearest first."""
    above: list[Process] = []
    while (parent := every.get(process.parent)) is not None and parent not in above:
        above.append(parent)
        process = parent
    return above


def _is_supervisord(process: Process) -> bool:
    return any(os.path.basename(word) == "supervisord" for word in process.argv[:3])  # noqa: PTH119


def _supervisorctl(supervisord: Process) -> tuple[str, ...]:
    """Give the command that talks to this supervisord: the one beside it, with its own configuration."""
    own = next(word for word in supervisord.argv if os.path.basename(word) == "supervisord")  # noqa: PTH119
    beside = Path(supervisord.cwd) / Path(own).with_name("supervisorctl")
    control = str(beside) if os.access(beside, os.X_OK) else shutil.which("supervisorctl")
    if control is None:
        return ()
    given = option(supervisord.argv, "--configuration") or _short(supervisord.argv)
    return (control, "-c", str(Path(supervisord.cwd) / given)) if given else (control,)


def _short(argv: Sequence[str]) -> str:
    return next((argv[n + 1] for n, word in enumerate(argv[:-1]) if word == "-c"), "")


def _name_of(pids: set[int], status: str) -> str:
    """Find the program that is one of these processes in what `supervisorctl status` prints."""
    return next((m["name"] for m in _STATUS.finditer(status) if m["pid"] and int(m["pid"]) in pids), "")


def unit_of(cgroup: str) -> str:
    """Give the systemd service that a process belongs to, from its cgroup. Pure."""
    paths = [line.rpartition(":")[2] for line in cgroup.splitlines()]
    names = [path.rpartition("/")[2] for path in paths]
    return next((name for name in names if name.endswith(".service")), "")


def _waits_for_it(first: Process, proc: Path) -> bool:
    """Tell whether the first process is a shell with this one child: its script may end with it, and all with that."""
    children = _read(proc / "1" / "task" / "1" / "children").split()
    return _SHELLS.search(os.path.basename(first.exe)) is not None and len(children) == 1  # noqa: PTH119


def _say(words: Sequence[str]) -> str:
    try:
        return programs.run(list(words), timeout=20).stdout if words[0] else ""
    except (GessoError, OSError):
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
