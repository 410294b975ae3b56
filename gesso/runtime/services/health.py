"""Ask the agent for the state of this instance, and whether Krita can work with it."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

from gesso.errors import CheckError
from gesso.runtime.unix_http import UnixConnection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gesso.runtime.layout import Layout

_TIMEOUT = 20.0  # seconds; a fresh check waits for ComfyUI
_NEXT = "`gesso logs agent` shows why"


def problems(layout: Layout) -> list[str]:
    """Check everything except the bytes of the models now; return what keeps Krita from working."""
    try:
        return [str(problem) for problem in _ask(layout, "/health?fresh")["problems"]]
    except CheckError as error:
        return [error.message]
    except (KeyError, TypeError):
        return ["the agent's answer is not valid"]


def silence(layout: Layout) -> str:
    """Return why Krita does not reach the instance by its URL now; empty if it does, or if nobody knows."""
    try:
        return silence_of(_ask(layout, "/state"))
    except CheckError:
        return "note: the instance does not run, or has just been started: nothing answers at this URL"


def silence_of(status: Mapping[str, Any]) -> str:
    """Return why Krita does not reach the instance in that state. Pure."""
    return f"note: this URL does not work now: {status.get('why')}" if status.get("state") == "failed" else ""


def status(layout: Layout) -> dict[str, Any]:
    """Return the agent's status.

    Raises CheckError if it does not answer.
    """
    return _ask(layout, "/state")


def fresh_status(layout: Layout) -> dict[str, Any]:
    """Return the agent's status after a check of everything except the bytes of the models.

    Raises CheckError if it does not answer.
    """
    return _ask(layout, "/state?fresh")


def _ask(layout: Layout, path: str) -> dict[str, Any]:
    connection = UnixConnection(layout.agent_socket, timeout=_TIMEOUT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        found = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise CheckError(f"the agent does not answer: {error}", _NEXT) from None
    finally:
        connection.close()
    if not isinstance(found, dict):
        raise CheckError(f"the agent answers with {answer.status}", _NEXT)
    return found
