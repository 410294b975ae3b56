"""The real ComfyUI as a process, and one prompt through it: what arrives over the websocket, or how it fails."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import os
import signal
import socket
import struct
import subprocess
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n"
CLIENT = "gesso-real"


@dataclass(frozen=True)
class Outcome:
    """How a prompt ended: sizes of the received images, or the failed node and its error; seconds."""

    pictures: tuple[tuple[int, int], ...] = ()
    failed_at: str = ""
    error: str = ""
    info: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@contextmanager
def running(checkout: Path, python: Path, folder: Path) -> Iterator[str]:
    """Run ComfyUI on a CPU with the models in `folder`/models; return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("user", "input", "output", "temp"):
        (folder / name).mkdir(exist_ok=True)
    command = [str(python), "main.py", "--cpu", "--port", str(port), "--disable-auto-launch", "--disable-api-nodes",
             "--database-url", f"sqlite:///{folder}/comfyui.db", "--models-directory", str(folder / "models"),
             *(f"--{name}-directory={folder / name}" for name in ("user", "input", "output", "temp"))]  # fmt: skip
    url, log = f"http://127.0.0.1:{port}", folder / "comfyui.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=checkout, stdout=out, stderr=out, start_new_session=True)
        try:
            _wait(url, process, log)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end:
        assert process.poll() is None, f"ComfyUI ended: {log.read_text(errors='replace')[-2000:]}"
        try:
            asyncio.run(get(url, "/system_stats"))
        except (aiohttp.ClientError, OSError):
            time.sleep(0.5)
        else:
            return
    raise AssertionError(f"ComfyUI does not answer: {log.read_text(errors='replace')[-2000:]}")


async def get(url: str, path: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url + path) as answer:
        answer.raise_for_status()
        return await answer.json()


async def post(url: str, path: str, body: Any) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.post(url + path, json=body) as answer:
        return answer.status, await answer.text()


def accepted(url: str, graph: dict[str, Any]) -> str:
    """Post a graph and delete it at once; return None, or the validation error."""

    async def post_and_cancel() -> str:
        status, result = await post(url, "/prompt", {"prompt": graph, "client_id": CLIENT})
        await post(url, "/queue", {"clear": True})
        await post(url, "/interrupt", {})
        while queue := await get(url, "/queue"):
            if not queue["queue_running"] and not queue["queue_pending"]:
                break
            await asyncio.sleep(0.2)
        return "" if status == 200 and not json.loads(result).get("node_errors") else result

    return asyncio.run(asyncio.wait_for(post_and_cancel(), 600))


def run(url: str, graph: dict[str, Any], limit: float = 900) -> Outcome:
    """Run a graph to its end."""
    started = time.monotonic()
    outcome = asyncio.run(asyncio.wait_for(_run(url, graph), limit))
    return Outcome(outcome.pictures, outcome.failed_at, outcome.error, outcome.info, time.monotonic() - started)


async def _run(url: str, graph: dict[str, Any]) -> Outcome:
    pictures: list[tuple[int, int]] = []
    info: dict[str, Any] = {}
    client = f"{CLIENT}-{time.monotonic_ns()}"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/ws?clientId={client}", max_msg_size=0) as ws,
    ):
        async with session.post(f"{url}/prompt", json={"prompt": graph, "client_id": client}) as answer:
            result = await answer.json()
        if "prompt_id" not in result or result.get("node_errors"):
            return Outcome(failed_at="POST /prompt", error=json.dumps(result))
        async for message in ws:
            if message.type is aiohttp.WSMsgType.BINARY:
                if message.data[8:16] == PNG:  # 4 bytes of event, 4 of format, the image
                    pictures.append(struct.unpack(">II", message.data[24:32]))
                continue
            event = json.loads(message.data)
            data = event["data"]
            if event["type"] == "executed" and (data["output"] or {}).get("info"):
                info = data["output"]["info"][0]
            if event["type"] == "execution_error":
                return Outcome(tuple(pictures), data["node_id"], data["exception_message"])
            if event["type"] == "execution_success":
                return Outcome(tuple(pictures), info=info)
    return Outcome(error="the websocket closed")


def as_krita_sends_it(
    graph: dict[str, Any], width: int, height: int, *, selection: bool = False, **parameters: Any
) -> dict[str, Any]:
    """Replace Krita's nodes by values, as the plugin does before it posts: a canvas, a selection, parameters."""
    graph = copy.deepcopy(graph)
    values: dict[tuple[str, int], Any] = {}
    for name, node in list(graph.items()):
        match node["class_type"]:
            case "ETN_KritaCanvas":
                values |= {(name, 1): width, (name, 2): height, (name, 3): 7}
                graph[name] = _node("ETN_LoadImageBase64", image=_png(width, height, (90, 140, 200)))
                graph[f"{name}9"] = _node("SolidMask", value=1.0, width=width, height=height)
                values[name, 4] = [f"{name}9", 0]
            case "ETN_KritaSelection":
                values |= {(name, 1): selection, (name, 2): 0, (name, 3): 0}
                graph[name] = _node("SolidMask", value=1.0, width=width, height=height)
            case "ETN_Parameter":
                label = node["inputs"]["name"].rpartition(". ")[2].split(" ")[0].lower()
                values[name, 0] = parameters.get(label, node["inputs"]["default"])
                del graph[name]
    for node in graph.values():
        for key, value in node["inputs"].items():
            if isinstance(value, list) and (value[0], value[1]) in values:
                node["inputs"][key] = values[value[0], value[1]]
    return graph


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def _png(width: int, height: int, colour: tuple[int, int, int]) -> str:
    """Return an image with a gradient, which no encoder takes for an empty one."""
    rows = b"".join(b"\0" + b"".join(bytes(((colour[0] + x) % 256, (colour[1] + y) % 256, colour[2]))
                                     for x in range(width)) for y in range(height))  # fmt: skip
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    body = b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
                    for kind, data in chunks.items())  # fmt: skip
    return base64.b64encode(PNG + body).decode()
