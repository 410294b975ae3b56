"""`gesso health`: not "a port is open", but "Krita could work with this"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso.errors import CheckError
from gesso.runtime import comfy, guard

if TYPE_CHECKING:
    from gesso.runtime.layout import Layout, Record


def problems(layout: Layout, record: Record) -> list[str]:
    """Give what stands between Krita and a working server; empty when nothing does."""
    found = [str(finding) for finding in guard.check(layout, record) if finding.broken]
    try:
        comfy.ask("/system_stats")
        known = comfy.ask("/object_info")
    except CheckError as error:
        return [*found, error.message]
    missing = [name for name in record.classes if name not in known]
    if missing:
        found.append(f"ComfyUI lacks node classes that Krita needs: {', '.join(missing)}")
    return found
