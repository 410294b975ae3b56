"""What all connections of a fetch share: environment, timeouts, and a way to stop them all."""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class Stoppable(Protocol):
    """A connection that can be stopped."""

    def shut(self) -> None:
        """Unblock whatever waits for it."""


@dataclass
class Client:
    """What all connections of a fetch share: environment, timeouts in seconds, and a way to stop.

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
        """Return the shared TLS context; it uses SSL_CERT_FILE and takes some milliseconds to create."""
        with self._guard:
            if self._tls is None:
                self._tls = ssl.create_default_context()
            return self._tls

    def stop(self) -> None:
        """Unblock all reads."""
        with self._guard:
            self.stopped = True
            wires = list(self._open)
        for wire in wires:
            wire.shut()

    def enter(self, wire: Stoppable) -> None:
        """Register a connection."""
        with self._guard:
            self._open.add(wire)

    def leave(self, wire: Stoppable) -> None:
        """Unregister a connection."""
        with self._guard:
            self._open.discard(wire)
