"""ComfyUI: how it is started in an instance, and how it is asked whether Krita could work with it."""

from __future__ import annotations

import http.client
import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gesso.errors import CheckError
from gesso.runtime.layout import COMFY_PORT, Layout, Record
from gesso.runtime.prepare import guard, node_packs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def command(layout: Layout, env: Mapping[str, str], *, gpu: bool) -> list[str]:
    """Give the command line; GESSO_COMFY_ARGS adds to it.

    Raises CheckError where that cannot be split into words.
    """
    try:
        extra = shlex.split(env.get("GESSO_COMFY_ARGS", ""))
    except ValueError as error:
        raise CheckError(f"GESSO_COMFY_ARGS: {error}", "quote it as in a shell") from None
    return [
        str(layout.venv / "bin" / "python"), str(layout.comfyui / "main.py"),
        "--listen", "127.0.0.1", "--port", str(COMFY_PORT), "--disable-auto-launch",
        "--models-directory", str(layout.models),
        "--user-directory", str(layout.user),
        "--database-url", f"sqlite:///{layout.user}/comfyui.db",
        "--input-directory", str(layout.workspace / "input"),
        "--output-directory", str(layout.workspace / "output"),
        "--temp-directory", str(layout.run),
        *([] if gpu or "--cpu" in extra else ["--cpu"]),
        *extra,
    ]  # fmt: skip


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Tell whether the container was given an NVIDIA GPU."""
    return any(entry.name[6:].isdigit() for entry in devices.glob("nvidia*"))


def fault_file(layout: Layout) -> Path:
    """Where a start that was refused says why: the page shows it."""
    return layout.run / "comfyui.refused.json"


def notes_file(layout: Layout) -> Path:
    """Where a start leaves what is not as locked and stands in nobody's way."""
    return layout.run / "comfyui.notes.json"


def start(layout: Layout, record: Record, env: Mapping[str, str], say: Callable[[str], None]) -> NoReturn:
    """Check the environment, then become ComfyUI.

    Raises CheckError where it must not be started like this.
    """
    layout.run.mkdir(parents=True, exist_ok=True)
    fault = fault_file(layout)
    gpu = has_gpu()
    try:
        findings = guard.ensure(layout, record, say)
        argv = command(layout, env, gpu=gpu)
    except CheckError as error:
        fault.write_text(json.dumps({"why": error.message, "next": error.next_step}), encoding="utf-8")
        raise
    fault.unlink(missing_ok=True)
    changed = node_packs.changed(layout, record)
    for text in changed:
        say(f"guard: note: {text}")
    notes_file(layout).write_text(json.dumps([*map(str, findings), *changed]), encoding="utf-8")
    if not gpu:
        say("comfyui: no NVIDIA GPU in this container: running on the CPU, which is very slow")
    os.chdir(layout.comfyui)
    # Unbuffered, so that the log shows what node packs print when they print it.
    os.execve(argv[0], argv, {**env, "PYTHONUNBUFFERED": "1"})  # noqa: S606 - it becomes ComfyUI: signals reach it


def ask(path: str, *, timeout: float = 8.0, port: int = COMFY_PORT) -> Any:
    """GET a JSON answer from ComfyUI.

    Raises CheckError where it does not answer.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise CheckError(f"ComfyUI does not answer: {error}", "look at /var/log/gesso/comfyui.log") from None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise CheckError(f"ComfyUI answers {path} with {answer.status}", "look at /var/log/gesso/comfyui.log")
    try:
        return json.loads(body)
    except ValueError:
        raise CheckError(f"ComfyUI answers {path} with no JSON", "look at /var/log/gesso/comfyui.log") from None


def missing(classes: Iterable[str], *, timeout: float = 8.0, port: int = COMFY_PORT) -> tuple[str, ...]:
    """Name the node classes that ComfyUI does not have. Each is asked for by itself: the whole list is megabytes.

    Raises CheckError where it does not answer.
    """
    return tuple(name for name in classes if name not in ask(f"/object_info/{name}", timeout=timeout, port=port))
