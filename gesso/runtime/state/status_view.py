"""`gesso status` and `gesso logs`: the state and the logs, formatted for a terminal."""

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
    rows += [_model(model) for model in status["models"] if model["stage"] != "verified"]
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


def _model(model: dict[str, Any]) -> str:
    share = f" {100 * model['done'] // model['size']} %" if model["size"] and model["done"] else ""
    trouble = model["trouble"]
    detail = trouble["why"] if trouble else model["message"]
    return f"  {model['stage']}{share}  {model['name']}{f': {detail}' if detail else ''}"


def log_names(layout: Layout) -> list[str]:
    """Return the names of the existing logs."""
    return sorted(path.stem for path in layout.logs.glob("*.log"))


def log_files(layout: Layout, name: str | None) -> list[Path]:
    """Return the file of one log, or of all.

    Raises ManifestError for an unknown name.
    """
    names = log_names(layout)
    if name is not None and name not in names:
        raise ManifestError(f"no log is named {name}", f"choose one of: {', '.join(names) or 'none yet'}")
    return [layout.logs / f"{each}.log" for each in ([name] if name else names)]


def logs(files: Sequence[Path], *, follow: bool, on_progress: Callable[[str], None]) -> int:
    """Print the end of each file, or become `tail -F` and follow them."""
    if follow:
        argv = ["tail", "-n", str(LINES), "-F", *map(str, files)]
        os.execvp(argv[0], argv)  # noqa: S606 - Ctrl-C reaches it
    for path in files:
        if len(files) > 1:
            on_progress(f"==> {path.name} <==")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        on_progress("\n".join(lines[-LINES:]))
    return 0
