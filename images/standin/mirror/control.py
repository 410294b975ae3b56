"""The control API, for a mirror in its own process or container.

POST   /_mirror/behave      {"path": "/vae/x.safetensors" or "*", "behaviour": "cut", "at": 1000, "times": 1}
                            with "also": true it is added to the path's behaviours
DELETE /_mirror/behave      remove all behaviours (with ?path=… only that path's)
GET    /_mirror/behaviours  the names, each with a description
GET    /_mirror/log         the requests so far; DELETE clears them
"""

from __future__ import annotations

import dataclasses
import json
from typing import Protocol

from .behaviours import BEHAVIOURS, Behaviour, behaviour, describe
from .exchange import Exchange
from .state import Record

PREFIX = "/_mirror/"


class Controlled(Protocol):
    """What the control API calls on the mirror."""

    @property
    def requests(self) -> list[Record]: ...
    def behave(self, path: str, *behaviours: Behaviour | str, also: bool = False) -> None: ...
    def forget(self, path: str | None = None) -> None: ...
    def clear_log(self) -> None: ...


def handle(mirror: Controlled, x: Exchange) -> None:
    """Handle a request to the control API."""
    match x.request.method, x.request.path.removeprefix(PREFIX):
        case "POST", "behave":
            _behave(mirror, x)
        case "DELETE", "behave":
            mirror.forget(x.request.query.get("path"))
            x.respond(204, "")
        case "GET", "behaviours":
            _json(x, 200, {name: describe(name) for name in BEHAVIOURS})
        case "GET", "log":
            records = mirror.requests
            _json(x, 200, [dataclasses.asdict(record) for record in records])
        case "DELETE", "log":
            mirror.clear_log()
            x.respond(204, "")
        case _:
            _json(x, 404, {"error": "unknown endpoint; use /_mirror/behave, /_mirror/behaviours or /_mirror/log"})


def _behave(mirror: Controlled, x: Exchange) -> None:
    try:
        options = json.loads(x.request.body)
        path, name, also = options.pop("path"), options.pop("behaviour"), bool(options.pop("also", False))
        mirror.behave(path, behaviour(name, **options), also=also)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _json(x, 400, {"error": f"{type(error).__name__}: {error}"})
    else:
        _json(x, 200, {"path": path, "behaviour": name})


def _json(x: Exchange, status: int, data: object) -> None:
    x.respond(status, json.dumps(data, indent=1) + "\n", "application/json")
