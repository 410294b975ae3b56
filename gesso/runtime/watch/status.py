"""The complete status of an instance as plain data: for the page, `gesso status`, and other programs."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gesso import __version__
from gesso.errors import CheckError
from gesso.manifest import connecting
from gesso.runtime.gate import address
from gesso.runtime.services import krita
from gesso.runtime.state import problems
from gesso.runtime.state.state import USABLE, Facts, Verdict, judge, progress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record
    from gesso.runtime.watch.comfyui import ComfyuiWatch
    from gesso.runtime.watch.drift import Drift
    from gesso.runtime.watch.model_sync import ModelSync

_VAST_VARIABLES = ("VAST_CONTAINERLABEL", "CONTAINER_ID")  # set in every instance at Vast.ai
_COST_AT_VAST = (
    "You pay by the hour until you destroy the instance, also while you do not use it: https://cloud.vast.ai/instances/"
)
_COST = "If this server is rented, it costs money until you end it, also while you do not use it."
_SHOWN_PINS = ("torch", "sqlalchemy", "numpy")
MAX_AGE = 120.0  # seconds without a round of the watch before the agent counts as stuck
CACHE_SECONDS = 0.2  # seconds for which a status is reused


class Status:
    """Collects the facts, derives the state, and remembers since when it holds."""

    def __init__(
        self, layout: Layout, record: Record, env: Mapping[str, str], model_sync: ModelSync, watch: ComfyuiWatch,
        drift: Drift,
    ) -> None:  # fmt: skip
        self._layout, self._record, self._env = layout, record, env
        self._model_sync, self._watch, self._drift = model_sync, watch, drift
        self._guard = threading.Lock()
        self._state, self._since = "", time.time()
        self._started = self._since
        self._ready_after: float | None = None
        self._last_url = ""
        self._cached: tuple[float, dict[str, Any]] = (-1e9, {})

    def facts(self) -> Facts:
        """Collect the facts."""
        models_known, models, fault = self._model_sync.facts()
        seen = self._watch.seen
        return Facts(
            models_known=models_known, models=models, fetch_trouble=fault,
            process=seen.program.state if seen.program else "",
            refused=self._watch.refused(), idle_starts=seen.idle_starts, up=seen.up, missing=seen.missing,
            published=seen.published, publish_trouble=seen.publish_trouble, drift=self._drift.seen,
            gate_up=self._watch.gate.up, gate_trouble=self._watch.gate.trouble, port_trouble=seen.port_trouble,
        )  # fmt: skip

    def __call__(self) -> dict[str, Any]:
        """Return the status."""
        with self._guard:
            now = time.monotonic()
            if now - self._cached[0] > CACHE_SECONDS:
                self._cached = (now, self._build())
            return self._cached[1]

    def fresh(self) -> dict[str, Any]:
        """Check everything except the models now, and return the status; takes about 0.2 s."""
        self._drift.check()
        self._watch.refresh()
        with self._guard:
            self._cached = (time.monotonic(), self._build())
            return self._cached[1]

    def problems(self, status: Mapping[str, Any]) -> list[str]:
        """Return what keeps Krita from working, or would at ComfyUI's next start; empty if nothing does."""
        found = [] if status["state"] in USABLE else [f"{status['state']}: {status['why']}"]
        if (age := self._watch.age()) > MAX_AGE:
            found.append(f"the agent has not checked anything for {age:.0f} s")
        return [*found, *self._drift.broken]

    def port_note(self) -> str:
        """Return a note for people about the URL; empty where it is known to be right."""
        return address.port_note(self._env)

    def alive(self) -> bool:
        """Return whether the agent still checks anything."""
        return self._watch.age() <= MAX_AGE

    def _build(self) -> dict[str, Any]:
        facts = self.facts()
        verdict = judge(facts)
        self._remember(verdict)
        seen, record = self._watch.seen, self._record
        vast = any(self._env.get(name) for name in _VAST_VARIABLES)
        return {
            "state": verdict.state, "why": verdict.why, "next": verdict.next_step,
            "notes": list(dict.fromkeys([*verdict.notes, *self._watch.notes()])),
            "since": round(self._since), "ready_after": self._ready_after,
            "title": record.title, "arch": record.arch, "trial": record.trial,
            "url": self._url(), "public": address.is_public(self._env),
            "problems": [asdict(problem) for problem in problems.find(facts)],
            "models": [asdict(model) for model in facts.models],
            "totals": _totals(facts), "progress": _progress(facts),
            "vast": vast, "cost": _COST_AT_VAST if vast else _COST,
            "connect": [asdict(step) for step in connecting.STEPS],
            "plugin": {"version": connecting.PLUGIN_VERSION, "url": connecting.PLUGIN_URL},
            "comfyui": {
                "up": seen.up, "process": facts.process.lower() or "unknown", "starts": seen.starts,
                "published": seen.published, "missing": list(seen.missing or ()),
            },
            "workflows": [asdict(graph) for graph in krita.list_workflows(record)],
            "gpus": _gpus(seen.stats),
            "disk": _disk(self._layout.models),
            "versions": _versions(record, seen.stats),
            "errors": [
                {"at": round(at), "text": text}
                for at, text in sorted([*self._model_sync.errors, *self._watch.errors], reverse=True)[:8]
            ],
        }  # fmt: skip

    def _url(self) -> str:
        """Return the URL to paste; the last known one while the token's files are missing."""
        with contextlib.suppress(CheckError):
            self._last_url = address.url(self._layout, self._env)
        return self._last_url

    def _remember(self, verdict: Verdict) -> None:
        if verdict.state != self._state:
            self._state, self._since = verdict.state, time.time()
            if verdict.usable and self._ready_after is None:
                self._ready_after = round(self._since - self._started, 1)


def _totals(facts: Facts) -> dict[str, Any]:
    counted = [model for model in facts.models if model.stage not in {"left-out", "failed"}]
    done, size = sum(m.done for m in counted), sum(max(m.size or 0, m.done) for m in counted)
    rate = sum(m.rate for m in counted)
    verified = sum(m.stage == "verified" for m in facts.models)
    left = round((size - done) / rate) if rate else None
    return {"done": done, "size": size, "rate": round(rate), "left": left, "verified": verified}


def _progress(facts: Facts) -> dict[str, Any]:
    """Return how far the models are that Krita waits for."""
    found = progress(facts.models)
    left = None if found.left is None else round(found.left)
    return {
        "done": found.done, "size": found.size, "rate": round(found.rate), "left": left, "percent": found.percent,
    }  # fmt: skip


def _gpus(stats: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the devices that ComfyUI reports."""
    found = stats.get("devices")
    devices = found if isinstance(found, list) else []
    return [
        {"name": str(d.get("name", "?")), "kind": str(d.get("type", "?")),
         "free": d.get("vram_free"), "total": d.get("vram_total")}
        for d in devices if isinstance(d, dict)
    ]  # fmt: skip


def _disk(path: Path) -> dict[str, int]:
    while not path.exists() and path != path.parent:
        path = path.parent
    found = os.statvfs(path)
    step = 10_000_000  # smaller changes are not reported
    return {
        "free": found.f_bavail * found.f_frsize // step * step,
        "total": found.f_blocks * found.f_frsize // step * step,
    }


def _versions(record: Record, stats: Mapping[str, Any]) -> dict[str, str]:
    system = stats.get("system")
    reported = system if isinstance(system, dict) else {}
    shown = {"gesso": __version__, "comfyui": str(reported.get("comfyui_version", "")), "arch": record.arch}
    shown |= {name: record.pins[name] for name in _SHOWN_PINS if name in record.pins}
    nodes = record.raw.get("nodes", {})
    shown |= {name: str(source.get("commit") or "stand-in")[:12] for name, source in nodes.items()}
    return {name: version for name, version in shown.items() if version}
