"""Slow down guessing: an address with many refused tokens gets one decision a second. Pure: the time is an argument.

Requests without any credential do not count. An address that has shown the right token within the last hour is never
slowed down: behind Docker's proxy all clients have the same address.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from dataclasses import dataclass, field

FREE = 10  # refused credentials a minute, before an address is slowed down
WINDOW = 60.0  # seconds
INTERVAL = 1.0  # seconds between two decisions for a slowed address
MAX_WAIT = 1.0  # seconds; Caddy does not wait for the agent longer than two
TRUSTED = 3600.0  # seconds
ADDRESSES = 1000  # remembered at most; the least recently used go first


@dataclass
class _Refusals:
    at: deque[float] = field(default_factory=lambda: deque(maxlen=FREE + 1))
    next_at: float = 0.0


class Throttle:
    """Remembers refused and accepted credentials by client address."""

    def __init__(self) -> None:
        self._refused: OrderedDict[str, _Refusals] = OrderedDict()
        self._trusted: OrderedDict[str, float] = OrderedDict()  # its own table: guesses cannot push these out

    def delay(self, address: str, now: float) -> float | None:
        """Return the seconds to wait before the decision, mostly 0; None to refuse without looking at the token."""
        name = _client(address)
        found = self._refused.get(name)
        if found is None or now - self._trusted.get(name, now - TRUSTED) < TRUSTED:
            return 0.0
        if len(found.at) <= FREE or now - found.at[0] >= WINDOW:
            return 0.0
        wait = max(0.0, found.next_at - now)
        if wait > MAX_WAIT:
            return None
        found.next_at = now + wait + INTERVAL
        return wait

    def refused(self, address: str, now: float) -> None:
        """Remember that a wrong credential came from this address."""
        name = _client(address)
        found = self._refused.setdefault(name, _Refusals())
        found.at.append(now)
        self._refused.move_to_end(name)
        while len(self._refused) > ADDRESSES:
            self._refused.popitem(last=False)

    def accepted(self, address: str, now: float) -> None:
        """Remember that the right token came from this address."""
        name = _client(address)
        self._trusted[name] = now
        self._trusted.move_to_end(name)
        while len(self._trusted) > ADDRESSES:
            self._trusted.popitem(last=False)


def _client(address: str) -> str:
    """Return what counts as one client: of IPv6, the network of one customer (/64)."""
    try:
        parsed = ipaddress.ip_address(address.rpartition(",")[2].strip().partition("%")[0])
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
