"""Publish the baked workflows to Krita's Graph tab, at each start of ComfyUI.

ComfyUI's tooling nodes hold published workflows in memory and send them to every Krita that connects, then and later.
They keep one workflow per client ID, so each graph gets its own ID.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.errors import CheckError
from gesso.runtime.layout import COMFY_PORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gesso.runtime.layout import Layout, Record

PATH = "/api/etn/workflow/publish"
SUFFIX = ".api.json"
_GOLD_PREFIX = "krita_gold_standard_"
_CAPITALS = {"sdxl": "SDXL", "flux": "FLUX", "sd15": "SD 1.5", "sd3": "SD3", "flux2": "FLUX.2"}


@dataclass(frozen=True)
class Published:
    """A graph as Krita lists it: `name (client_id)`."""

    file: str
    name: str
    client_id: str


def list_workflows(files: Iterable[str]) -> tuple[Published, ...]:
    """Return the graphs to publish: those in API format, the basic one of an architecture first."""
    return tuple(map(_published, sorted((file for file in files if file.endswith(SUFFIX)), key=lambda f: (len(f), f))))


def _published(file: str) -> Published:
    stem = file.removesuffix(SUFFIX)
    words = stem.removeprefix(_GOLD_PREFIX).split("_")
    readable = " ".join(_CAPITALS.get(word, word) for word in words)
    title = f"{readable}: gold standard" if stem.startswith(_GOLD_PREFIX) else readable[:1].upper() + readable[1:]
    return Published(file, title, f"gesso-{'-'.join(words)}")


def publish(layout: Layout, record: Record, on_progress: Callable[[str], None], port: int = COMFY_PORT) -> None:
    """Publish every baked graph.

    Raises CheckError if one fails; the others are still published.
    """
    failed = []
    for graph in list_workflows(record.workflows):
        try:
            workflow = json.loads((layout.gesso / "workflows" / graph.file).read_bytes())
            _post({"name": graph.name, "client_id": graph.client_id, "workflow": workflow}, port)
        except (OSError, ValueError, http.client.HTTPException) as error:
            failed.append(f"{graph.file}: {error}")
        else:
            on_progress(f"krita: published {graph.name}")
    if failed:
        raise CheckError(f"not published to Krita: {'; '.join(failed)}", "see ComfyUI's log: `gesso logs comfyui`")


def _post(body: object, port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", PATH, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        reason = answer.read(500)
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise ValueError(f"ComfyUI answers {answer.status}: {reason.decode(errors='replace')}")
