"""Find ComfyUI on this machine, and the Python that runs it. Only files and /proc are read; nothing is started.

This file is also run alone, before anything is installed, by whatever Python the instance has (3.8 or newer): it
imports only the standard library, and prints the result as one line of JSON.
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

MARKER = "gesso-found "  # prefix of the result line: a login script may print others
CACHE_FOLDER = ".cache/gesso"  # below the home directory: everything that gesso stores on such an instance
BUNDLE_PREFIX = "heal-"  # prefix of the folders there that hold an unpacked bundle
_COMFYUI_FILES = ("main.py", "folder_paths.py", "nodes.py", "server.py")
KNOWN_FOLDERS = (
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
        for argument in self.argv[1:]:
            if argument == "main.py" or argument.endswith("/main.py"):
                return Path(os.path.normpath(os.path.join(self.cwd, argument)))  # noqa: PTH118
        return None

    @property
    def python(self) -> str:
        """The interpreter as it was called: /proc/PID/exe names the one outside of the venv."""
        command = self.argv[0]
        if "/" in command:
            found = os.path.normpath(os.path.join(self.cwd, command))  # noqa: PTH118
            return found if os.access(found, os.X_OK) else self.exe
        for folder in self.env.get("PATH", "").split(":"):
            found = os.path.join(folder, command)  # noqa: PTH118
            if folder and os.access(found, os.X_OK):
                return found
        return self.exe


@dataclass(frozen=True)
class Found:
    """A ComfyUI; `process` is None where it does not run."""

    folder: Path
    python: str
    process: Process | None = None


def is_comfyui(folder: Path) -> bool:
    """Return whether a folder holds ComfyUI's own code."""
    try:
        return all((folder / name).is_file() for name in _COMFYUI_FILES)
    except OSError:
        return False


def processes(proc: Path = Path("/proc")) -> Iterator[Process]:
    """Yield every process that can be read."""
    for entry in sorted(proc.iterdir(), key=lambda path: path.name):
        if not entry.name.isdigit():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().split(b"\0")[:-1]
            if not argv:
                continue
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            cwd = os.readlink(entry / "cwd")
            exe = os.readlink(entry / "exe")
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
    """Return the processes that run a ComfyUI: neither launchers nor its own children."""
    found = [
        process
        for process in processes(proc)
        if "python" in os.path.basename(process.exe)  # noqa: PTH119
        and process.main is not None
        and is_comfyui(process.main.parent)
    ]
    pids = {process.pid for process in found}
    return [process for process in found if process.parent not in pids]


def find(chosen: str = "", proc: Path = Path("/proc"), known_folders: Sequence[str] = KNOWN_FOLDERS) -> Found:
    """Find ComfyUI: the one that runs, else one in a known folder; `chosen` selects another.

    Raises NotFoundError.
    """
    alive = [(p.main.parent, p) for p in running(proc) if p.main is not None]
    if chosen:
        folder = Path(chosen).expanduser()
        if not is_comfyui(folder):
            raise NotFoundError(f"{chosen}: there is no ComfyUI in it", "specify the folder that holds its main.py")
        same = [(f, p) for f, p in alive if os.path.realpath(f) == os.path.realpath(folder)]
        return Found(*_from_process(same[0])) if same else Found(folder, python_of(folder))
    folders = {os.path.realpath(folder) for folder, _ in alive}
    if len(folders) > 1:
        raise NotFoundError(f"more than one ComfyUI runs: {', '.join(sorted(folders))}", "select one: --comfyui DIR")
    if alive:
        return Found(*_from_process(alive[0]))
    stopped: dict[str, Path] = {}
    for name in known_folders:
        if is_comfyui(path := Path(name).expanduser()):
            stopped.setdefault(os.path.realpath(path), path)  # a link to it does not count twice
    if len(stopped) > 1:
        found = ", ".join(sorted(stopped))
        raise NotFoundError(f"there is more than one ComfyUI: {found}", "select one: --comfyui DIR")
    if not stopped:
        raise NotFoundError("no ComfyUI runs here, and none is in a known folder", "specify its folder: --comfyui DIR")
    folder = next(iter(stopped.values()))
    return Found(folder, python_of(folder))


def _from_process(pair: tuple[Path, Process]) -> tuple[Path, str, Process]:
    return pair[0], pair[1].python, pair[1]


def python_of(folder: Path, venvs: Sequence[str] = _VENVS) -> str:
    """Guess the Python of a ComfyUI that does not run: a venv nearby that has its packages, else the system's."""
    for name in venvs:
        venv = folder / name
        if _has_packages(venv):
            return os.path.normpath(venv / "bin" / "python")
    for name in os.environ.get("PATH", "/usr/bin").split(":"):
        if os.access(os.path.join(name, "python3"), os.X_OK):  # noqa: PTH118
            return os.path.join(name, "python3")  # noqa: PTH118
    return "/usr/bin/python3"


def _has_packages(venv: Path) -> bool:
    try:
        sites = list(venv.glob("lib/python3*/site-packages"))
        return any((site / "aiohttp").is_dir() for site in sites) and os.access(venv / "bin" / "python", os.X_OK)
    except OSError:  # not readable, such as root's
        return False


def cache_folder() -> Path:
    """Return the folder in which gesso stores everything on such an instance."""
    return Path(os.path.expanduser("~")) / CACHE_FOLDER  # noqa: PTH111


def describe(chosen: str) -> dict[str, object]:
    """Return what the host needs to know. Never the environment: it contains secrets."""
    cache = cache_folder()
    bundles = [path for path in cache.glob(f"{BUNDLE_PREFIX}*") if (path / "heal.py").is_file()]
    kept = sorted(path.name[len(BUNDLE_PREFIX) :] for path in bundles)
    try:
        found = find(chosen)
    except NotFoundError as error:
        return {"home": str(cache), "kept": kept, "error": str(error), "next": error.next_step}
    pid = found.process.pid if found.process is not None else 0
    return {"home": str(cache), "kept": kept, "folder": str(found.folder), "python": found.python, "pid": pid}


if __name__ == "__main__":
    sys.stdout.write(MARKER + json.dumps(describe(sys.argv[1] if len(sys.argv) > 1 else "")) + "\n")
