"""Offers that fit an image: how long until it paints on each, and what that costs. An estimate, and it says of what.

The image is pulled and the models are fetched over the offer's own line; unpacking and the start are the same
everywhere. A host that has the image's layers from before is faster by all of the pull.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gesso.builder.vast.api import LATER, Api
from gesso.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PATH = "/api/v0/bundles/"
_APART = 3.0  # seconds
EFFICIENCY = 0.7  # of the line that an offer names: what hosts measure is a peak, with many streams
_UNPACK = 150e6  # bytes of image on disk that a host unpacks in a second
_START = 45.0  # seconds: container, gate, ComfyUI, the check of what was fetched


@dataclass(frozen=True)
class Load:
    """What has to come before it paints, in bytes: pulled, unpacked, fetched."""

    compressed: int
    unpacked: int
    models: int
    exact: bool = True  # False: the image's sizes are guessed, for no registry was asked


@dataclass(frozen=True)
class Offer:
    """One offer: dollars an hour with the disk, Mbit/s, seconds until it paints, and the dollars of those."""

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
        """Give the documented keys of `--json`."""
        return {("id" if name == "number" else name): value for name, value in asdict(self).items()}


def query(filters: Mapping[str, Mapping[str, Any]], disk_gb: int, limit: int) -> dict[str, Any]:
    """Give the search as the API takes it: the template's own conditions, priced with its disk. Pure."""
    return {
        **filters,
        "rented": {"eq": False},
        "type": "on-demand",
        "allocated_storage": disk_gb,
        "order": [["dph_total", "asc"]],
        "limit": limit,
    }


def seconds_to_ready(load: Load, inet_down: float) -> float:
    """Estimate the seconds until it paints, at `inet_down` Mbit/s. Pure."""
    return (load.compressed + load.models) * 8 / (inet_down * 1e6 * EFFICIENCY) + load.unpacked / _UNPACK + _START


def search(api: Api, asked: Mapping[str, Any], load: Load) -> tuple[list[Offer], int]:
    """Ask for offers; give them, the cheapest to get ready first, and how many could not be read.

    Raises PublishError.
    """
    with api.paced(_PATH, _APART):
        answer = api.ask("POST", _PATH, dict(asked), what="offers", reads=True)
    listed = answer.get("offers")
    if not isinstance(listed, list):
        raise PublishError("offers: Vast.ai's answer has no list of them", LATER)
    found = [_offer(row, load) for row in listed]
    readable = [offer for offer in found if offer is not None]
    return sorted(readable, key=lambda o: (o.dollars_to_ready, o.dollars_an_hour, o.number)), len(found) - len(readable)


def _offer(row: Any, load: Load) -> Offer | None:
    """Read one; None where what the estimate leans on is not there."""
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
            dollars_to_ready=round(price * seconds / 3600 + _pulled(row, load), 4),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _pulled(row: Mapping[str, Any], load: Load) -> float:
    """Give the dollars that a host takes for what comes over its line."""
    return float(row.get("inet_down_cost") or 0) * (load.compressed + load.models) / 1e9


def _printable(value: Any) -> str:
    return "".join(c for c in str(value or "?") if c.isprintable())[:40]


def table(offers: Sequence[Offer], load: Load) -> str:
    """Give offers as a table for people, with what the estimate assumes below it. Pure."""
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
    return "\n".join([*lines, "", assumed(load)])


def assumed(load: Load) -> str:
    """Say what the estimate leans on."""
    guess = "" if load.exact else " (guessed: give --image to have the registry's sizes)"
    return (
        f"Assumed: {load.compressed / 1e9:.1f} GB of image pulled{guess} and {load.models / 1e9:.1f} GB of required "
        f"models fetched, at {EFFICIENCY:.0%} of the line;\n{load.unpacked / 1e9:.1f} GB unpacked at "
        f"{_UNPACK / 1e6:g} MB/s; {_START:g} s to start. A host that has the image pulls nothing."
    )


def minutes(seconds: float) -> str:
    """Give a time as minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
