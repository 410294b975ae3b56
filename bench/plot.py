"""Shared by the benchmarks' reports: format measurements, and draw bar charts as plain SVG.

Without a plotting library: the file has a readable diff, and there is nothing to install.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS, VERIFIED, OTHER = "#2a6f97", "#7a9e7e", "#999"
_LINE, _HEAD, _GAP = 20, 18, 14  # pixels


@dataclass(frozen=True)
class Bar:
    """One bar, with the lowest and highest measurement if known."""

    name: str
    value: float
    colour: str = OTHER
    low: float | None = None
    high: float | None = None


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Format the median and the range of the values."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def bars(groups: Sequence[tuple[str, Sequence[Bar]]], *, names: int = 60, width: int = 560) -> str:
    """Draw groups of bars, each group scaled to its largest one; `names` is the width of the names' column."""
    height = sum(_HEAD + _LINE * len(group) + _GAP for _, group in groups) + _GAP
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif"'
            ' font-size="13">'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    top = _GAP
    for label, group in groups:
        parts.append(f'<text x="10" y="{top + 12}" font-weight="bold">{_escaped(label)}</text>')
        scale = (width - names - 80) / max(max(bar.high or 0, bar.value) for bar in group)
        for line, bar in enumerate(group):
            parts += _bar(bar, names, top + _HEAD + line * _LINE, scale)
        top += _HEAD + _LINE * len(group) + _GAP
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(bar: Bar, left: int, y: int, scale: float) -> list[str]:
    end = left + bar.value * scale
    high = max(end, left + (bar.high or 0) * scale)
    parts = [
        f'<text x="10" y="{y + 13}" fill="#555">{_escaped(bar.name)}</text>',
        f'<rect x="{left}" y="{y}" width="{end - left:.0f}" height="16" fill="{bar.colour}"/>',
        f'<text x="{high + 6:.0f}" y="{y + 13}">{bar.value:.{1 if bar.value < 100 else 0}f}</text>',
    ]
    if bar.low is not None and bar.high is not None:
        parts.append(
            f'<path d="M{left + bar.low * scale:.0f} {y + 8}H{left + bar.high * scale:.0f}" stroke="#222" fill="none"/>'
        )
    return parts


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
