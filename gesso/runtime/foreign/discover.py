"""Where is ComfyUI on this machine, and which Python runs it? Read from files and /proc alone; nothing is started.

Before anything else is there, this very file is run by whatever Python the instance has (3.8 or newer): it imports
nothing but the standard library, and prints what it found as one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MARK = "gesso-found "  # begins the line that counts: a login script may print others
CACHE = ".cache/gesso"  # below the home directory: everything that gesso keeps on such an instance
BUNDLE = "heal-"  # begins the name of a folder there that a bundle was unpacked into
_OWN = ("main.py", "folder_paths.py", "nodes.py", "server.py")
PLACES = (
    "/workspace/ComfyUI", "/root/ComfyUI", "/opt/ComfyUI", "/ComfyUI", "~/ComfyUI", "/app/ComfyUI", "/app",
    "/home/user/ComfyUI", "/opt/workspace-internal/ComfyUI", "/workspace/comfyui", "/comfyui",
)  # fmt: skip
_VENVS = ("venv", ".venv", "../venv", "../.venv", "/venv/main", "/opt/venv", "/workspace/venv",
          "/opt/environments/python/comfyui", "/opt/conda", "/root/miniconda3", "/opt/micromamba")  # fmt: skip


class NotFoundError(Exception):
    """No ComfyUI, or more than one; `next_step` says what to do."""

    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(message)
        self.next_step = next_step


@dataclass(frozen=True)
class Process:
    """A process as /proc shows it; `env` is empty where it is another user's."""

    pid: int
    parent: int
    argv: tuple[str, ...]
    cwd: str
    exe: str
    env: dict[str, str]

    @property
    def main(self) -> Path | None:
        """The main.py that it runs."""
        for word in self.argv[1:]:
            if word == "main.py" or word.endswith("/main.py"):
                return Path(os.path.normpath(os.path.join(self.cwd, word)))  # noqa: PTH118
        return None

    @property
    def python(self) -> str:
        """The interpreter as it was called: what /proc/PID/exe names is the one outside of the venv."""
        word = self.argv[0]
        if "/" in word:
            found = os.path.normpath(os.path.join(self.cwd, word))  # noqa: PTH118
            return found if os.access(found, os.X_OK) else self.exe
        for folder in self.env.get("PATH", "").split(":"):
            found = os.path.join(folder, word)  # noqa: PTH118
            if folder and os.access(found, os.X_OK):
                return found
        return self.exe


@dataclass(frozen=True)
class Found:
    """A ComfyUI; `process` where it runs."""

    folder: Path
    python: str
    process: Process | None = None


def is_comfyui(folder: Path) -> bool:
    """Tell whether a folder holds ComfyUI's own code."""
    try:
        return all((folder / name).is_file() for name in _OWN)
    except OSError:
        return False


def processes(proc: Path = Path("/proc")) -> Iterator[Process]:
    """Give every process that can be read."""
    for entry in sorted(proc.iterdir(), key=lambda path: path.name):
        if not entry.name.isdigit():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().split(b"\0")[:-1]
            if not argv:
                continue
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            cwd = os.readlink(entry / "cwd")  # noqa: PTH115
            exe = os.readlink(entry / "exe")  # noqa: PTH115
        except (OSError, ValueError, IndexError):
            continue
        yield Process(int(entry.name), parent, tuple(map(os.fsdecode, argv)), cwd, exe, _environment(entry))


def _environment(entry: Path) -> dict[str, str]:
    try:
        rows = (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (os.fsdecode(row).partition("=") for row in rows if b"=" in row)
    return {name: value for name, _, value in pairs}


def running(proc: Path = Path("/proc")) -> list[Process]:
    """Give the processes that are a ComfyUI: neither those that start one, nor its own children."""
    found = [
        process
        for process in processes(proc)
        if "python" in os.path.basename(process.exe)  # noqa: PTH119
        and process.main is not None
        and is_comfyui(process.main.parent)
    ]
    pids = {process.pid for process in found}
    return [process for process in found if process.parent not in pids]


def find(chosen: str = "", proc: Path = Path("/proc"), places: Sequence[str] = PLACES) -> Found:
    """Find ComfyUI: the one that runs, else one in a known place; `chosen` says which.

    Raises NotFoundError.
    """
    alive = [(p.main.parent, p) for p in running(proc) if p.main is not None]
    if chosen:
        folder = Path(chosen).expanduser()
        if not is_comfyui(folder):
            raise NotFoundError(f"{chosen}: there is no ComfyUI in it", "name the folder that holds its main.py")
        same = [(f, p) for f, p in alive if os.path.realpath(f) == os.path.realpath(folder)]
        return Found(*_of(same[0])) if same else Found(folder, python_of(folder))
    folders = {os.path.realpath(folder) for folder, _ in alive}
    if len(folders) > 1:
        raise NotFoundError(f"more than one ComfyUI runs: {', '.join(sorted(folders))}", "say which: --comfyui DIR")
    if alive:
        return Found(*_of(alive[0]))
    still: dict[str, Path] = {}
    for place in places:
        if is_comfyui(path := Path(place).expanduser()):
            still.setdefault(os.path.realpath(path), path)  # a link to it is no second one
    if len(still) > 1:
        raise NotFoundError(f"there is more than one ComfyUI: {', '.join(sorted(still))}", "say which: --comfyui DIR")
    if not still:
        raise NotFoundError("no ComfyUI runs here, and none is in a known place", "say where it is: --comfyui DIR")
    folder = next(iter(still.values()))
    return Found(folder, python_of(folder))


def _of(pair: tuple[Path, Process]) -> tuple[Path, str, Process]:
    return pair[0], pair[1].python, pair[1]


def python_of(folder: Path, venvs: Sequence[str] = _VENVS) -> str:
    """Guess the Python of a ComfyUI that does not run: a venv nearby that has what it imports, else the system's."""
    for name in venvs:
        venv = folder / name
        if _is_fit(venv):
            return os.path.normpath(venv / "bin" / "python")
    for name in os.environ.get("PATH", "/usr/bin").split(":"):
        if os.access(os.path.join(name, "python3"), os.X_OK):  # noqa: PTH118
            return os.path.join(name, "python3")  # noqa: PTH118
    return "/usr/bin/python3"


def _is_fit(venv: Path) -> bool:
    try:
        sites = list(venv.glob("lib/python3*/site-packages"))
        return any((site / "aiohttp").is_dir() for site in sites) and os.access(venv / "bin" / "python", os.X_OK)
    except OSError:  # somebody else's, such as root's: not to be looked at
        return False


def home() -> Path:
    """Give the folder that gesso keeps things in, on such an instance."""
    return Path(os.path.expanduser("~")) / CACHE  # noqa: PTH111


def describe(chosen: str) -> dict[str, object]:
    """Give what the host needs to know. No environment: there are secrets in it."""
    kept = sorted(p.name[len(BUNDLE) :] for p in home().glob(f"{BUNDLE}*") if (p / "heal.py").is_file())
    try:
        found = find(chosen)
    except NotFoundError as error:
        return {"home": str(home()), "kept": kept, "error": str(error), "next": error.next_step}
    runs = found.process.pid if found.process is not None else 0
    return {"home": str(home()), "kept": kept, "folder": str(found.folder), "python": found.python, "pid": runs}


if __name__ == "__main__":
    sys.stdout.write(MARK + json.dumps(describe(sys.argv[1] if len(sys.argv) > 1 else "")) + "\n")
