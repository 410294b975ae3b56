"""`gesso health`: check that Krita can work, not just that a port is open."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

from gesso.errors import CheckError
from gesso.runtime.prepare import guard
from gesso.runtime.services import comfyui
from gesso.runtime.state.state import USABLE
from gesso.runtime.unix_http import UnixConnection

if TYPE_CHECKING:
    from gesso.runtime.layout import Layout, Record


def problems(layout: Layout, record: Record) -> list[str]:
    """Return the problems that keep Krita from working; empty if there are none.

    Python and ComfyUI are checked directly; models and published workflows through the agent.
    """
    found = [str(finding) for finding in guard.check(layout, record) if finding.broken]
    try:
        comfyui.get_json("/system_stats")
        missing = comfyui.missing_classes(record.classes)
    except CheckError as error:
        found.append(error.message)
    else:
        if missing:
            found.append(f"ComfyUI lacks node classes that Krita needs: {', '.join(missing)}")
    try:
        reported = status(layout)
    except CheckError as error:
        return [*found, error.message]
    if reported["state"] not in USABLE:
        found.append(f"{reported['state']}: {reported['why']}")
    return found


def status(layout: Layout) -> dict[str, Any]:
    """Return the agent's status.

    Raises CheckError if it does not answer.
    """
    connection = UnixConnection(layout.agent_socket, timeout=5)
    try:
        connection.request("GET", "/gesso/status.json")
        answer = connection.getresponse()
        found = json.loads(answer.read()) if answer.status == http.client.OK else None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CheckError(f"the agent does not answer: {error}", "`gesso logs agent` shows why") from None
    finally:
        connection.close()
    if not isinstance(found, dict):
        raise CheckError(f"the agent answers with {answer.status}", "`gesso logs agent` shows why")
    return found
