"""A heal told at a terminal: each event as a line, the report as a few."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gesso.models.progress import size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Teller:
    """Turns events into lines."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def hear(self, event: dict[str, Any]) -> None:
        """Tell of one event, if people need to know."""
        if line := line_of(event):
            self._say(line)


def line_of(event: dict[str, Any]) -> str:
    """Give an event in a line; nothing where it says nothing to people."""
    spoken = _LINES.get(event["event"])
    return f"heal: {line}" if spoken is not None and (line := spoken(event)) else ""


def _read(event: dict[str, Any]) -> str:
    of = f" of {size(event['size'])}" if event.get("size") else ""
    return f"  {size(event['done'])}{of} read" if event["what"] in {"models", "python"} else ""


def _damage(damage: dict[str, Any]) -> str:
    return f"{damage['kind']} {damage['name']}: {damage['found']}"


def _plan(event: dict[str, Any]) -> str:
    if not event["steps"]:
        return ""
    fetch = f", {size(event['fetch_bytes'])} to fetch" if event["fetch_bytes"] else ""
    restart = "ComfyUI is restarted" if event["restart"] else "ComfyUI goes on running"
    return f"plan: {len(event['steps'])} to repair{fetch}; {restart}"


def _model(event: dict[str, Any]) -> str:
    share = f" {size(event.get('done', 0))} of {size(event['size'])}" if event.get("size") else ""
    said = f": {event['message']}" if event.get("message") else ""
    return f"  {event['name']}: {event['kind']}{share}{said}"


_LINES: dict[str, Callable[[dict[str, Any]], str]] = {
    "examining": lambda e: f"looking at {e['what']}",
    "progress": _read,
    "found": lambda e: f"found: {_damage(e['damage'])}",
    "planned": _plan,
    "repairing": lambda e: f"{e['kind']} {e['name']}: {e['remedy']}",
    "repaired": lambda e: f"{e['kind']} {e['name']}: repaired",
    "left": lambda e: f"{e['kind']} {e['name']}: left as it is: {e['said']}",
    "failed": lambda e: f"{e['kind']} {e['name']}: NOT repaired: {e['why']}",
    "model": _model,
    "restarting": lambda e: f"restarting {e['what']}: {e['why']}",
    "waiting": lambda e: f"waiting: {e['what']}",
    "said": lambda e: f"  {e['text']}",
}


def text(report: dict[str, Any], path: Path) -> str:
    """Give a report for people."""
    rows = [f"{'ok' if report['ok'] else 'heal'}: {report['summary']}"]
    for damage in report["damages"]:
        rows.append(f"  {damage['outcome']}: {_damage(damage)}")
        rows += [f"    {damage['why']}"] * bool(damage["why"])
        rows += [f"    next: {damage['next']}"] * bool(damage["next"] and damage["outcome"] != "repaired")
    for trouble in report["troubles"]:
        rows.append(f"  {trouble['why']}")
        rows += [f"    next: {trouble['next']}"] * bool(trouble["next"])
    took = f"{report['seconds']:g} s, {size(report['fetched'])} fetched"
    return "\n".join([*rows, f"{took}; the report: {path}"])
