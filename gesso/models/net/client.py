"""What all connections of one fetch share: the environment, the time limits, and the way to stop them at once."""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class Stoppable(Protocol):
    """A connection, as far as its client needs to know it."""

    def shut(self) -> None:
        """Make whatever waits on it return."""


@dataclass
class Client:
    """What all connections of one fetch share: the environment, the time limits in seconds, and the way to stop.

    `stall`: a connection that gives no byte for so long is given up.
    """

    env: Mapping[str, str]
    connect: float = 10.0
    stall: float = 30.0
    _tls: ssl.SSLContext | None = None
    _open: set[Stoppable] = field(default_factory=set)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    stopped: bool = False

    def tls(self) -> ssl.SSLContext:
        """Give the one context; it takes SSL_CERT_FILE from the environment, and some milliseconds to make."""
        with self._guard:
            if self._tls is None:
                self._tls = ssl.create_default_context()
            return self._tls

    def stop(self) -> None:
        """Make every read that waits return at once."""
        with self._guard:
            self.stopped = True
            wires = list(self._open)
        for wire in wires:
            wire.shut()

    def enter(self, wire: Stoppable) -> None:
        """Count a wire in."""
        with self._guard:
            self._open.add(wire)

    def leave(self, wire: Stoppable) -> None:
        """Count it out."""
        with self._guard:
            self._open.discard(wire)
