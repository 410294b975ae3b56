"""ComfyUI: start it in an instance, and query it over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gesso.errors import CheckError
from gesso.runtime import atomic, variables
from gesso.runtime.layout import COMFY_PORT, PUBLIC_PORT, Layout, Record
from gesso.runtime.prepare import guard, node_packs
from gesso.runtime.services import unprivileged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# What gesso sets itself, and what would open ComfyUI without the token or move data out of the volume. ComfyUI's parser
# takes abbreviations (`--lis`), so that the beginning of one of these is one of them.
_SET_BY_GESSO = (
    "--listen", "--port", "--tls-keyfile", "--tls-certfile", "--enable-cors-header", "--database-url",
    "--base-directory", "--models-directory", "--user-directory", "--input-directory", "--output-directory",
    "--temp-directory",
)  # fmt: skip
_UPLOAD_LIMIT = "1024"  # MB: a canvas of 12,000 x 15,000 pixels as PNG in base64; ComfyUI's own default is 100


def command(layout: Layout, env: Mapping[str, str], *, gpu: bool) -> list[str]:
    """Return the command line, with the arguments from GESSO_COMFY_ARGS.

    Raises CheckError if that variable cannot be parsed, or sets what only gesso may set.
    """
    try:
        extra = shlex.split(env.get("GESSO_COMFY_ARGS", ""))
    except ValueError as error:
        raise CheckError(f"GESSO_COMFY_ARGS: {error}", "quote it as in a shell") from None
    if refused := refused_arguments(extra):
        raise CheckError(
            f"GESSO_COMFY_ARGS: {', '.join(refused)}: gesso sets that itself; ComfyUI is reached through the "
            f"gate on port {PUBLIC_PORT} only, and its data stays in {layout.workspace}",
            "remove it from GESSO_COMFY_ARGS, and create the container again",
        )
    return [
        str(layout.venv / "bin" / "python"), str(layout.comfyui / "main.py"),
        "--listen", "127.0.0.1", "--port", str(COMFY_PORT), "--disable-auto-launch",
        "--models-directory", str(layout.models),
        "--user-directory", str(layout.user),
        "--database-url", f"sqlite:///{layout.user}/comfyui.db",
        "--input-directory", str(layout.workspace / "input"),
        "--output-directory", str(layout.workspace / "output"),
        "--temp-directory", str(layout.comfyui_temporary),
        "--max-upload-size", _UPLOAD_LIMIT,
        *([] if gpu or "--cpu" in extra else ["--cpu"]),
        *extra,
    ]  # fmt: skip


def refused_arguments(argv: Iterable[str]) -> list[str]:
    """Return the options in `argv` that only gesso may set, as they were written. Pure."""
    names = (word.partition("=")[0] for word in argv)
    return [name for name in names if len(name) > 2 and any(option.startswith(name) for option in _SET_BY_GESSO)]


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Return whether the container has an NVIDIA GPU."""
    return any(entry.name[6:].isdigit() for entry in devices.glob("nvidia*"))


def fault_file(layout: Layout) -> Path:
    """Return the file with the reason of a refused start; the page shows it."""
    return layout.run / "comfyui.refused.json"


def refuse(layout: Layout, error: CheckError) -> None:
    """Record why ComfyUI was not started, or was stopped, for the page; its next start forgets it."""
    content = json.dumps({"why": error.message, "next": error.next_step}).encode()
    with contextlib.suppress(OSError):  # the log says it, too
        atomic.write_bytes(fault_file(layout), content)


def notes_file(layout: Layout) -> Path:
    """Return the file with differences from the lock that did not prevent the last start."""
    return layout.run / "comfyui.notes.json"


def start(layout: Layout, record: Record, env: Mapping[str, str], on_progress: Callable[[str], None]) -> NoReturn:
    """Check the environment, then become ComfyUI.

    Raises CheckError if ComfyUI must not be started.
    """
    layout.run.mkdir(parents=True, exist_ok=True)
    fault = fault_file(layout)
    gpu = has_gpu()
    try:
        findings = guard.ensure(layout, record, on_progress)
        argv = command(layout, env, gpu=gpu)
        layout.comfyui_temporary.mkdir(exist_ok=True)
        switch = unprivileged.switch(layout, record, env, on_progress)
    except CheckError as error:
        refuse(layout, error)
        raise
    with contextlib.suppress(OSError):
        fault.unlink()
    changed = node_packs.changed(layout, record)
    for text in changed:
        on_progress(f"guard: note: {text}")
    with contextlib.suppress(OSError):  # the log says it, too
        atomic.write_bytes(notes_file(layout), json.dumps([*map(str, findings), *changed]).encode())
    if not gpu:
        on_progress("comfyui: no NVIDIA GPU in this container: running on the CPU, which is very slow")
    os.chdir(layout.comfyui)
    # Unbuffered, so that the log shows the output of node packs at once.
    environ = {**variables.for_comfyui(layout, env), "PYTHONUNBUFFERED": "1"}
    if switch:
        argv, environ = [*switch, *argv], unprivileged.environment(layout, environ)
    os.execvpe(argv[0], argv, environ)  # noqa: S606 - it becomes ComfyUI: signals reach it


def get_json(path: str, *, timeout: float = 8.0, port: int = COMFY_PORT) -> Any:
    """Send a GET request to ComfyUI and return the JSON response.

    Raises CheckError if there is none.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise CheckError(f"ComfyUI does not answer: {error}", "see ComfyUI's log: `gesso logs comfyui`") from None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise CheckError(f"ComfyUI answers {path} with {answer.status}", "see ComfyUI's log: `gesso logs comfyui`")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise CheckError(
            f"ComfyUI's response to {path} is not JSON", "see ComfyUI's log: `gesso logs comfyui`"
        ) from None


def queue_length(answer: Any) -> int:
    """Return the number of jobs in an answer to /prompt; 0 where it has none. Pure."""
    try:
        return int(answer["exec_info"]["queue_remaining"])
    except (KeyError, TypeError, ValueError):
        return 0


def missing_classes(classes: Iterable[str], *, timeout: float = 8.0, port: int = COMFY_PORT) -> tuple[str, ...]:
    """Return the node classes that ComfyUI lacks. Each takes one request: the whole list is megabytes.

    Raises CheckError if it does not answer.
    """
    return tuple(name for name in classes if name not in get_json(f"/object_info/{name}", timeout=timeout, port=port))
