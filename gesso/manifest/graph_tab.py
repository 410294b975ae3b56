"""How Krita's Graph tab lists a workflow: its title and its ID.

Separate from the schema, because an instance needs them without pydantic.
"""

from __future__ import annotations

_NOT_IN_ID = "krita_gold_standard_"  # gesso's own workflows: gesso-sdxl. Documents in Krita refer to the ID: keep it.


def derived_title(name: str) -> str:
    """Return the title of a workflow that has none in the manifest: its file name in words."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def client_id(name: str) -> str:
    """Return the ID under which a workflow is published; it depends on the file name only."""
    return f"gesso-{name.removeprefix(_NOT_IN_ID).replace('_', '-')}"
