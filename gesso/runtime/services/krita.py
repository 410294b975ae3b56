"""Krita's Graph tab: the baked workflows are published to it, once ComfyUI is up and after each of its restarts.

ComfyUI's tooling nodes keep what is published in memory and hand it to every Krita that connects, then and later. There
is one workflow for each client id, so each graph gets an id of its own.
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
_GOLD = "krita_gold_standard_"
_CAPITALS = {"sdxl": "SDXL", "flux": "FLUX", "sd15": "SD 1.5", "sd3": "SD3", "flux2": "FLUX.2"}


@dataclass(frozen=True)
class Published:
    """A graph as Krita lists it: `name (client_id)`."""

    file: str
    name: str
    client_id: str


def listed(files: Iterable[str]) -> tuple[Published, ...]:
    """Name the graphs that are published: those in API format, the plain one of an architecture first."""
    return tuple(map(_published, sorted((file for file in files if file.endswith(SUFFIX)), key=lambda f: (len(f), f))))


def _published(file: str) -> Published:
    stem = file.removesuffix(SUFFIX)
    words = stem.removeprefix(_GOLD).split("_")
    spoken = " ".join(_CAPITALS.get(word, word) for word in words)
    title = f"{spoken}: gold standard" if stem.startswith(_GOLD) else spoken[:1].upper() + spoken[1:]
    return Published(file, title, f"gesso-{'-'.join(words)}")


def publish(layout: Layout, record: Record, say: Callable[[str], None], port: int = COMFY_PORT) -> None:
    """Publish every baked graph.

    Raises CheckError where one cannot be; the others are published all the same.
    """
    failed = []
    for graph in listed(record.workflows):
        try:
            workflow = json.loads((layout.gesso / "workflows" / graph.file).read_bytes())
            _post({"name": graph.name, "client_id": graph.client_id, "workflow": workflow}, port)
        except (OSError, ValueError, http.client.HTTPException) as error:
            failed.append(f"{graph.file}: {error}")
        else:
            say(f"krita: published {graph.name}")
    if failed:
        raise CheckError(f"not published to Krita: {'; '.join(failed)}", "look at /var/log/gesso/comfyui.log")


def _post(body: object, port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", PATH, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read(500)
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise ValueError(f"ComfyUI answers {answer.status}: {said.decode(errors='replace')}")
