"""The agent's own paths below /gesso/: for the agent's routes, and for Caddy, which sends all others to ComfyUI.

So `/TOKEN/gesso/`, copied from the page, works as Krita's address: Krita then asks `/TOKEN/gesso/system_stats`,
`/TOKEN/gesso/ws` and `/TOKEN/gesso/api/etn/…`, and ComfyUI gets them without `/gesso`.
"""

from __future__ import annotations

import re

PAGE_FILES = ("style.css", "app.js", "draw.js", "heal.js", "logs.js", "state.js", "icon.svg")
_STATE = ("status.json", "events")
_NAMES = "|".join(re.escape(name) for name in (*PAGE_FILES, *_STATE))

# Regular expressions for Go and Python alike; Go has no lookahead, so the exception has its own.
AGENT = rf"^/(metrics|gesso|gesso/({_NAMES})?|gesso/api(/.*)?)$"
NOT_AGENT = "^/gesso/api/etn/"  # Krita's node pack
BELOW = "^/gesso/"


def is_agents(path: str) -> bool:
    """Return whether a path, without the token, is one of the agent's own."""
    return re.search(AGENT, path) is not None and re.search(NOT_AGENT, path) is None


def without_prefix(path: str) -> str:
    """Return the path that ComfyUI gets."""
    return path.removeprefix("/gesso") if re.search(BELOW, path) else path
