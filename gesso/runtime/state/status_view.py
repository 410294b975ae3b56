"""`gesso status` and `gesso logs`: what the agent knows, and what the programs wrote, for a terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from gesso.errors import ManifestError
from gesso.models.progress import duration, size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gesso.runtime.layout import Layout

LINES = 100


def text(status: dict[str, Any]) -> str:
    """Give a status for people."""
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
        f"models   {status['totals']['verified']} of {len(status['models'])} verified{_moving(status['totals'])}",
    ]
    rows += [_model(model) for model in status["models"] if model["stage"] != "verified"]
    rows += [f"disk     {size(disk['free'])} of {size(disk['total'])} free"]
    rows += [f"lately   {error['text']}" for error in status["errors"]]
    return "\n".join(rows)


def _moving(totals: dict[str, Any]) -> str:
    if not totals["rate"]:
        return ""
    left = f", {duration(totals['left'])} left" if totals["left"] is not None else ""
    return f", {size(totals['rate'])}/s{left}"


def _model(model: dict[str, Any]) -> str:
    share = f" {100 * model['done'] // model['size']} %" if model["size"] and model["done"] else ""
    trouble = model["trouble"]
    said = trouble["why"] if trouble else model["message"]
    return f"  {model['stage']}{share}  {model['name']}{f': {said}' if said else ''}"


def log_names(layout: Layout) -> list[str]:
    """Name the logs that there are."""
    return sorted(path.stem for path in layout.logs.glob("*.log"))


def log_files(layout: Layout, name: str | None) -> list[Path]:
    """Give the files of one log, or of all.

    Raises ManifestError for a name that none has.
    """
    names = log_names(layout)
    if name is not None and name not in names:
        raise ManifestError(f"no log is called {name}", f"choose one of: {', '.join(names) or 'none yet'}")
    return [layout.logs / f"{each}.log" for each in ([name] if name else names)]


def logs(files: Sequence[Path], *, follow: bool, say: Callable[[str], None]) -> int:
    """Print the end of each, or become what follows them."""
    if follow:
        words = ["tail", "-n", str(LINES), "-F", *map(str, files)]
        os.execvp(words[0], words)  # noqa: S606 - Ctrl-C reaches it
    for path in files:
        if len(files) > 1:
            say(f"==> {path.name} <==")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        say("\n".join(lines[-LINES:]))
    return 0
