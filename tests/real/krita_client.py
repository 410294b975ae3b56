"""Run by the plugin's Python: connect Krita's own client to a ComfyUI, list published workflows, import every graph.

usage: krita_client.py PLUGIN URL SECONDS; prints JSON: whether the client reports something missing, what each
architecture lacks, the checkpoints, and the workflows received within those seconds. The plugin is not changed: its
`websockets` folder, which a release has and a checkout does not, is replaced by the installed package.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.machinery
import json
import os
import sys
import time
import types
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


def give_websockets(plugin: Path) -> None:
    """Make `ai_diffusion.websockets.src.websockets` the installed package."""
    import websockets
    import websockets.exceptions

    for name in ("ai_diffusion.websockets", "ai_diffusion.websockets.src"):
        module = types.ModuleType(name)
        module.__path__ = []
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.websockets = websockets  # type: ignore[attr-defined]
        sys.modules[name] = module
    sys.path.insert(0, str(plugin))


def main(plugin: str, url: str, seconds: float) -> None:
    give_websockets(Path(plugin))
    from PyQt5.QtCore import QCoreApplication

    application = QCoreApplication([])
    from ai_diffusion import eventloop

    eventloop.setup()
    out: dict[str, object] = {"connected": False, "workflows": {}}
    task, end = eventloop.run(talk(url, seconds, out)), time.monotonic() + 150
    while not task.done() and time.monotonic() < end:
        application.processEvents()
        time.sleep(0.005)
    if not task.done():
        out["error"] = "no answer in 150 s"
    elif task.exception():
        out["error"] = repr(task.exception())
    sys.stdout.write(f"{json.dumps(out)}\n")


async def talk(url: str, seconds: float, out: dict[str, object]) -> None:
    from ai_diffusion.backend.client import ClientEvent, MissingResources
    from ai_diffusion.backend.comfy_client import ComfyClient
    from ai_diffusion.backend.comfy_workflow import ComfyWorkflow
    from ai_diffusion.model.custom_workflow import workflow_parameters

    client = ComfyClient(url)
    await client.connect()
    out["connected"] = True
    try:
        async for _ in client.discover_models(refresh=False):
            pass
    except MissingResources as missing:
        out["missing"] = str(missing)
    missing_models = client.missing_resources.missing
    if isinstance(missing_models, dict):  # else node classes were missing, and it did not get to the models
        out["supported"] = [arch.name for arch, absent in missing_models.items() if not absent]
        out["missing_models"] = {
            arch.name: [absent.name for absent in found] for arch, found in missing_models.items() if found
        }
        out["checkpoints"] = {name: info.arch.name for name, info in client.models.checkpoints.items()}
    found: dict[str, object] = {}
    out["workflows"] = found

    async def listen() -> None:
        async for message in client.listen():
            if message.event is ClientEvent.published:
                graph = message.result.workflow
                imported = ComfyWorkflow.import_graph(graph, client.models.node_inputs)
                found[message.result.publisher] = {
                    "sha256": hashlib.sha256(json.dumps(graph, sort_keys=True).encode()).hexdigest(),
                    "nodes": len(graph), "imported": sum(1 for _ in imported),
                    "parameters": [parameter.name for parameter in workflow_parameters(imported)],
                }  # fmt: skip

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(listen(), seconds)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
