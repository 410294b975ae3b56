"""Prometheus metrics of the state (text format 0.0.4). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from gesso.runtime.state.state import Name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(status: Mapping[str, Any]) -> str:
    """Return the metrics of a status (gesso.runtime.watch.status)."""
    models, comfyui, disk = status["models"], status["comfyui"], status["disk"]
    lines = [
        *_metric("state", "1 for the current state of the instance.",
                 [({"state": name}, int(name == status["state"])) for name in get_args(Name)]),
        *_metric("model_verified", "1 if the model is in place and verified.",
                 [(_of(m), int(m["stage"] == "verified")) for m in models]),
        *_metric("model_size_bytes", "Size according to the lock.",
                 [(_of(m), m["size"]) for m in models if m["size"] is not None]),
        *_metric("model_done_bytes", "Bytes on disk.", [(_of(m), m["done"]) for m in models]),
        *_metric("fetch_bytes_per_second", "Download rate of the models.", [({}, status["totals"]["rate"])]),
        *_metric("comfyui_up", "1 if ComfyUI responds.", [({}, int(comfyui["up"]))]),
        *_metric("comfyui_starts_total", "Observed starts of ComfyUI.", [({}, comfyui["starts"])], "counter"),
        *_metric("workflows_published", "1 if Krita has the workflows.", [({}, int(comfyui["published"]))]),
        *_metric("disk_free_bytes", "Free space on the disk of the models.", [({}, disk["free"])]),
        *_metric("disk_size_bytes", "Size of the disk of the models.", [({}, disk["total"])]),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _of(model: Mapping[str, Any]) -> dict[str, str]:
    return {"name": model["name"], "tier": model["tier"]}


def _metric(
    name: str, description: str, values: Iterable[tuple[Mapping[str, str], float]], kind: str = "gauge"
) -> list[str]:  # fmt: skip
    lines = [f"# HELP gesso_{name} {description}", f"# TYPE gesso_{name} {kind}"]
    for labels, value in values:
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"gesso_{name}{f'{{{inner}}}' if inner else ''} {value}")
    return lines


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
