"""ComfyUI's own editor in a headless Chromium, driven over its debugging protocol: open a graph, export it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0")  # fmt: skip
_READY = "!!window.comfyAPI?.app?.app?.graph"
_EXPORT = """(async () => {{
  const app = window.comfyAPI.app.app;
  await app.loadGraphData({graph});
  await new Promise(done => setTimeout(done, 100));
  return JSON.stringify((await app.graphToPrompt()).output);
}})()"""


@contextmanager
def chromium(program: str, folder: Path) -> Iterator[str]:
    """Run a Chromium; return the address of its debugging protocol."""
    command = [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port, end = folder / "DevToolsActivePort", time.monotonic() + 60
        while not port.exists() or not port.read_text().strip():
            assert process.poll() is None, "Chromium ended"
            assert time.monotonic() < end, "Chromium does not open its port"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port.read_text().split()[0]}"
    finally:
        process.terminate()
        process.wait(20)


@asynccontextmanager
async def editor(debugging: str, url: str) -> AsyncIterator[Callable[[str], Awaitable[dict[str, Any]]]]:
    """Open the editor at `url`; return a function from a graph's text to what the editor would queue."""
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{debugging}/json/new?{url}/") as answer:
            page = (await answer.json())["webSocketDebuggerUrl"]
        async with session.ws_connect(page, max_msg_size=0) as socket:

            async def run(script: str) -> Any:
                call = time.monotonic_ns() % 1_000_000_007
                await socket.send_json({"id": call, "method": "Runtime.evaluate", "params": {
                    "expression": script, "awaitPromise": True, "returnByValue": True}})  # fmt: skip
                while (result := await socket.receive_json(timeout=120)).get("id") != call:
                    pass
                assert "exceptionDetails" not in result.get("result", {}), result["result"]["exceptionDetails"]
                # Without a result, the page was not loaded.
                return result["result"]["result"].get("value") if "result" in result else None

            async def export(text: str) -> dict[str, Any]:
                found: dict[str, Any] = json.loads(await run(_EXPORT.format(graph=text)))
                return found

            for _ in range(120):
                if await run(_READY):
                    break
                await asyncio.sleep(1)
            await asyncio.sleep(3)  # it opens a default graph at first
            yield export
