"""Format a heal for the terminal: each event as a line, the report as a few."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gesso.models.progress import size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class TerminalReport:
    """Prints events as lines of text."""

    def __init__(self, on_progress: Callable[[str], None]) -> None:
        self._on_progress = on_progress

    def on_event(self, event: dict[str, Any]) -> None:
        """Print one event, if it is of interest to people."""
        if line := format_event(event):
            self._on_progress(line)


def format_event(event: dict[str, Any]) -> str:
    """Return the line for an event; empty where it is of no interest to people."""
    formatter = _LINES.get(event["event"])
    return f"heal: {line}" if formatter is not None and (line := formatter(event)) else ""


def _read(event: dict[str, Any]) -> str:
    of = f" of {size(event['size'])}" if event.get("size") else ""
    return f"  {size(event['done'])}{of} read" if event["what"] in {"models", "python"} else ""


def _damage(damage: dict[str, Any]) -> str:
    return f"{damage['kind']} {damage['name']}: {damage['found']}"


def _plan(event: dict[str, Any]) -> str:
    if not event["steps"]:
        return ""
    fetch = f", {size(event['fetch_bytes'])} to fetch" if event["fetch_bytes"] else ""
    restart = "ComfyUI will be restarted" if event["restart"] else "ComfyUI is not restarted"
    return f"plan: {len(event['steps'])} to repair{fetch}; {restart}"


def _model(event: dict[str, Any]) -> str:
    share = f" {size(event.get('done', 0))} of {size(event['size'])}" if event.get("size") else ""
    message = f": {event['message']}" if event.get("message") else ""
    return f"  {event['name']}: {event['kind']}{share}{message}"


_LINES: dict[str, Callable[[dict[str, Any]], str]] = {
    "examining": lambda e: f"examining {e['what']}",
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


def format_report(report: dict[str, Any], path: Path) -> str:
    """Return a report as text."""
    rows = [f"{'ok' if report['ok'] else 'heal'}: {report['summary']}"]
    for damage in report["damages"]:
        rows.append(f"  {damage['outcome']}: {_damage(damage)}")
        rows += [f"    {damage['why']}"] * bool(damage["why"])
        rows += [f"    next: {damage['next']}"] * bool(damage["next"] and damage["outcome"] != "repaired")
    for error in report["troubles"]:
        rows.append(f"  {error['why']}")
        rows += [f"    next: {error['next']}"] * bool(error["next"])
    totals = f"{report['seconds']:g} s, {size(report['fetched'])} fetched"
    return "\n".join([*rows, f"{totals}; report: {path}"])
