"""`gesso status` and `gesso logs`: the state and the logs, formatted for a terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from gesso.models.progress import duration, size
from gesso.runtime.state import log_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LINES = 100


def text(status: dict[str, Any]) -> str:
    """Return a status as text for people."""
    comfyui, disk = status["comfyui"], status["disk"]
    rows = [f"{status['state']}: {status['why']}"]
    rows += [f"  next: {status['next']}"] if status["next"] else []
    rows += [f"  note: {note}" for note in status["notes"]]
    rows += [
        f"image    {status['title']}{' (a TRIAL)' * status['trial']}",
        (
            f"comfyui  {'answers' if comfyui['up'] else comfyui['process']}, {comfyui['starts']} starts, workflows "
            f"{'published' if comfyui['published'] else 'not published yet'}"
        ),
        f"models   {status['totals']['verified']} of {len(status['models'])} verified{_rate(status['totals'])}",
    ]
    grouped = [problem for problem in status["problems"] if problem["names"]]
    named = {name for problem in grouped for name in problem["names"]}
    rows += [row for problem in grouped for row in _problem(problem)]
    rows += [_model(m) for m in status["models"] if m["stage"] != "verified" and m["name"] not in named]
    rows += [f"disk     {size(disk['free'])} of {size(disk['total'])} free"]
    rows += [f"lately   {error['text']}" for error in status["errors"]]
    return "\n".join(rows)


def health(problems: Sequence[str]) -> str:
    """Return the problems of an instance as text for people."""
    return "\n".join(problems) or "ok: Krita can work with this instance"


def _rate(totals: dict[str, Any]) -> str:
    if not totals["rate"]:
        return ""
    left = f", {duration(totals['left'])} left" if totals["left"] is not None else ""
    return f", {size(totals['rate'])}/s{left}"


def _problem(problem: dict[str, Any]) -> list[str]:
    """Return one cause with the models that it keeps from coming."""
    count = problem["count"]
    rows = [f"  {count} model{'s' * (count != 1)}: {problem['cause']}", f"    {', '.join(problem['names'])}"]
    return [*rows, *([f"    next: {problem['next']}"] if problem["next"] else [])]


def _model(model: dict[str, Any]) -> str:
    share = f" {100 * model['done'] // model['size']} %" if model["size"] and model["done"] else ""
    message = f": {model['message']}" if model["message"] else ""
    return f"  {model['stage']}{share}  {model['name']}{message}"


def logs(files: Sequence[Path], *, follow: bool, on_progress: Callable[[str], None]) -> int:
    """Print the end of each file, or become `tail -F` and follow them."""
    if follow:
        argv = ["tail", "-n", str(LINES), "-F", *map(str, files)]
        os.execvp(argv[0], argv)  # noqa: S606 - Ctrl-C reaches it
    for path in files:
        if len(files) > 1:
            on_progress(f"==> {path.name} <==")
        on_progress("\n".join(log_files.tail(path).splitlines()[-LINES:]))
    return 0
