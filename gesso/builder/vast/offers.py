"""Search offers that fit an image; estimate time and cost until ready on each, and state the assumptions.

The image is pulled and the models are fetched at the offer's own bandwidth; unpacking and start take the same time
everywhere. A host that already has the image's layers needs no pull.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gesso.builder.vast.api import RETRY_LATER, Api
from gesso.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PATH = "/api/v0/bundles/"
_SPACING = 3.0  # seconds
EFFICIENCY = 0.7  # of an offer's bandwidth: hosts measure a peak, with many streams
_UNPACK = 150e6  # bytes of image on disk unpacked per second
_START = 45.0  # seconds: container, gate, ComfyUI, verification


@dataclass(frozen=True)
class Load:
    """Bytes that a host must pull, unpack and fetch before it is ready."""

    compressed: int
    unpacked: int
    models: int
    exact: bool = True  # False: the image's sizes are estimates, not the registry's


@dataclass(frozen=True)
class Offer:
    """One offer: dollars per hour with the disk, Mbit/s, seconds until ready, and their cost in dollars."""

    number: int
    gpu: str
    gpu_gb: float
    cuda: float
    where: str
    inet_down: float
    reliability: float
    dollars_an_hour: float
    seconds: float
    dollars_to_ready: float

    def as_json(self) -> dict[str, Any]:
        """Return the documented keys of `--json`."""
        return {("id" if name == "number" else name): value for name, value in asdict(self).items()}


def query(filters: Mapping[str, Mapping[str, Any]], disk_gb: int, limit: int) -> dict[str, Any]:
    """Return the API's search request: the template's own conditions, priced with its disk. Pure."""
    return {
        **filters,
        "rented": {"eq": False},
        "type": "on-demand",
        "allocated_storage": disk_gb,
        "order": [["dph_total", "asc"]],
        "limit": limit,
    }


def seconds_to_ready(load: Load, inet_down: float) -> float:
    """Estimate the seconds until ready, at `inet_down` Mbit/s. Pure."""
    return (load.compressed + load.models) * 8 / (inet_down * 1e6 * EFFICIENCY) + load.unpacked / _UNPACK + _START


def search(api: Api, request: Mapping[str, Any], load: Load) -> tuple[list[Offer], int]:
    """Return the offers, the cheapest to get ready first, and how many were unreadable.

    Raises PublishError.
    """
    with api.rate_limited(_PATH, _SPACING):
        response = api.request("POST", _PATH, dict(request), what="offers", reads=True)
    listed = response.get("offers")
    if not isinstance(listed, list):
        raise PublishError("offers: Vast.ai's response has no list of them", RETRY_LATER)
    found = [_parse_offer(row, load) for row in listed]
    readable = [offer for offer in found if offer is not None]
    return sorted(readable, key=lambda o: (o.dollars_to_ready, o.dollars_an_hour, o.number)), len(found) - len(readable)


def _parse_offer(row: Any, load: Load) -> Offer | None:
    """Read one; None where a value that the estimate needs is missing or invalid."""
    try:
        price, speed = float(row["dph_total"]), float(row["inet_down"])
        if not (math.isfinite(price) and math.isfinite(speed) and speed > 0 and price >= 0):
            return None
        seconds = seconds_to_ready(load, speed)
        return Offer(
            number=int(row["id"]),
            gpu=_printable(row.get("gpu_name")),
            gpu_gb=round(float(row.get("gpu_ram") or 0) / 1024, 1),
            cuda=float(row.get("cuda_max_good") or 0),
            where=_printable(row.get("geolocation")),
            inet_down=round(speed, 1),
            reliability=round(float(row.get("reliability2") or row.get("reliability") or 0), 4),
            dollars_an_hour=round(price, 4),
            seconds=round(seconds),
            dollars_to_ready=round(price * seconds / 3600 + _traffic_cost(row, load), 4),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _traffic_cost(row: Mapping[str, Any], load: Load) -> float:
    """Return the dollars that a host charges for downloads."""
    return float(row.get("inet_down_cost") or 0) * (load.compressed + load.models) / 1e9


def _printable(value: Any) -> str:
    return "".join(c for c in str(value or "?") if c.isprintable())[:40]


def table(offers: Sequence[Offer], load: Load) -> str:
    """Return offers as a table for a terminal, with the assumptions below it. Pure."""
    head = ("id", "GPU", "GB", "CUDA", "Mbit/s", "rel.", "$/h", "ready in", "$ to ready", "where")
    rows = [
        (str(o.number), o.gpu, f"{o.gpu_gb:g}", f"{o.cuda:g}", f"{o.inet_down:,.0f}", f"{o.reliability:.1%}",
         f"{o.dollars_an_hour:.3f}", minutes(o.seconds), f"{o.dollars_to_ready:.3f}", o.where)
        for o in offers
    ]  # fmt: skip
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    left = {1, 9}
    lines = [
        "  ".join(cell.ljust(width) if n in left else cell.rjust(width)
                  for n, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in (head, *rows)
    ]  # fmt: skip
    return "\n".join([*lines, "", assumptions(load)])


def assumptions(load: Load) -> str:
    """Return the assumptions of the estimate as text."""
    note = "" if load.exact else " (an estimate; pass --image for the registry's sizes)"
    return (
        f"Assumed: {load.compressed / 1e9:.1f} GB of image pulled{note} and {load.models / 1e9:.1f} GB of required "
        f"models fetched, at {EFFICIENCY:.0%} of the bandwidth;\n{load.unpacked / 1e9:.1f} GB unpacked at "
        f"{_UNPACK / 1e6:g} MB/s; {_START:g} s to start. A host that has the image pulls nothing."
    )


def minutes(seconds: float) -> str:
    """Return a time as M:SS."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
