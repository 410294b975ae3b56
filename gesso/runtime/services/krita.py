"""Publish the baked workflows to Krita's Graph tab, at each start of ComfyUI.

ComfyUI's tooling nodes hold published workflows in memory and send them to every Krita that connects, then and later.
They keep one workflow per client ID, so each graph gets its own ID. Titles come from the manifest, through build.json.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.errors import CheckError
from gesso.manifest.graph_tab import client_id, derived_title
from gesso.runtime.layout import COMFY_PORT

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.runtime.layout import Layout, Record

PATH = "/api/etn/workflow/publish"
SUFFIX = ".api.json"


@dataclass(frozen=True)
class Published:
    """A graph as Krita lists it: `name (client_id)`."""

    file: str
    name: str
    client_id: str


def list_workflows(record: Record) -> tuple[Published, ...]:
    """Return the graphs to publish, those in API format, in the order in which Krita lists them."""
    names = (file.removesuffix(SUFFIX) for file in record.workflows if file.endswith(SUFFIX))
    found = (
        Published(f"{name}{SUFFIX}", record.workflow_titles.get(name) or derived_title(name), client_id(name))
        for name in names
    )
    return tuple(sorted(found, key=lambda graph: (graph.name, graph.client_id)))


def publish(layout: Layout, record: Record, on_progress: Callable[[str], None], port: int = COMFY_PORT) -> None:
    """Publish every baked graph.

    Raises CheckError if one fails; the others are still published.
    """
    failed = []
    for graph in list_workflows(record):
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
