"""Behaviour of the pack's output classes: they send a grey image in the formats that Krita reads."""

from __future__ import annotations

import struct
from typing import Any

from server import BinaryEventTypes
from standin.png import placeholder
from standin.recorded import Behaviour

from .images import CACHE

PNG = 2
MIME = {"text": "text/plain", "markdown": "text/markdown", "html": "text/html"}


def send_image(_: dict[str, Any]) -> dict[str, Any]:
    message = (BinaryEventTypes.PREVIEW_IMAGE, struct.pack(">I", PNG) + placeholder())
    image = {"source": "websocket", "content-type": "image/png", "type": "output"}
    return {"_binary": [message], "images": [image]}


def krita_output(inputs: dict[str, Any]) -> dict[str, Any]:
    info = {
        "name": inputs["name"],
        "offset_x": inputs["x"],
        "offset_y": inputs["y"],
        "batch_mode": inputs["batch_mode"],
        "resize_canvas": inputs["resize_canvas"],
    }
    return {**send_image(inputs), "info": [info]}


def save_image_cache(_: dict[str, Any]) -> dict[str, Any]:
    key = CACHE.add(placeholder(), "image/png")
    return {"images": [{"source": "http", "id": key, "content-type": "image/png", "type": "output"}]}


def send_text(inputs: dict[str, Any]) -> dict[str, Any]:
    # A link's value is unknown, because nothing was computed.
    text = "(trial)" if isinstance(inputs["value"], list) else str(inputs["value"])
    return {"text": [{"name": inputs["name"], "text": text, "content-type": MIME[inputs["type"]]}]}


def only_in_krita(_: dict[str, Any]) -> dict[str, Any]:
    raise NotImplementedError("This workflow must be started from Krita!")


BEHAVIOURS: dict[str, Behaviour] = {
    "ETN_KritaOutput": krita_output,
    "ETN_KritaSendText": send_text,
    "ETN_KritaStyle": only_in_krita,
    "ETN_KritaStyleAndPrompt": only_in_krita,
    "ETN_SaveImageCache": save_image_cache,
    "ETN_SendImageWebSocket": send_image,
}
