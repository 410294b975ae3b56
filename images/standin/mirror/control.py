"""The control door, for a mirror in a process or container of its own.

POST   /_mirror/behave      {"path": "/vae/x.safetensors" or "*", "behaviour": "cut", "at": 1000, "times": 1}
                            with "also": true it is added to what is set for the path
DELETE /_mirror/behave      everything is healthy again (with ?path=… only that path)
GET    /_mirror/behaviours  the names, each with a line about it
GET    /_mirror/log         the requests so far; DELETE forgets them
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from .behaviours import BEHAVIOURS, behaviour, describe
from .exchange import Exchange

if TYPE_CHECKING:
    from .server import Mirror

PREFIX = "/_mirror/"


def answer(mirror: Mirror, x: Exchange) -> None:
    """Do what a request to the control door asks for."""
    match x.request.method, x.request.path.removeprefix(PREFIX):
        case "POST", "behave":
            _behave(mirror, x)
        case "DELETE", "behave":
            mirror.forget(x.request.query.get("path"))
            x.say(204, "")
        case "GET", "behaviours":
            _json(x, 200, {name: describe(name) for name in BEHAVIOURS})
        case "GET", "log":
            records = mirror.requests
            _json(x, 200, [dataclasses.asdict(record) for record in records])
        case "DELETE", "log":
            mirror.clear_log()
            x.say(204, "")
        case _:
            _json(x, 404, {"error": "there are /_mirror/behave, /_mirror/behaviours and /_mirror/log"})


def _behave(mirror: Mirror, x: Exchange) -> None:
    try:
        asked = json.loads(x.request.body)
        path, name, also = asked.pop("path"), asked.pop("behaviour"), bool(asked.pop("also", False))
        mirror.behave(path, behaviour(name, **asked), also=also)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _json(x, 400, {"error": f"{type(error).__name__}: {error}"})
    else:
        _json(x, 200, {"path": path, "behaviour": name})


def _json(x: Exchange, status: int, data: object) -> None:
    x.say(status, json.dumps(data, indent=1) + "\n", "application/json")
