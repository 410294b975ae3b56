"""Check addresses: https or loopback only, and no redirect to a private network (SSRF)."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import urllib.request
from typing import Any, Literal
from urllib.parse import urlsplit

from gesso.manifest.schema import LOOPBACK_HOSTS
from gesso.models.faults import SourceError

Reach = Literal["any", "public", "public or here"]  # which addresses may be connected to


def allowed(url: str, source: str) -> None:
    """Refuse a URL that a source must not redirect to.

    Raises SourceError: https only, and plain http to this machine alone, from a source that is so itself.
    """
    try:
        parts, begun = urlsplit(url), urlsplit(source)
    except ValueError:
        raise SourceError("insecure", "it redirects to an invalid URL: only https is followed") from None
    here = begun.scheme == "http" and begun.hostname in LOOPBACK_HOSTS
    with contextlib.suppress(ValueError):
        _ = parts.port
        if parts.scheme == "https" and parts.hostname:
            return
        if parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS and here:
            return
        if parts.scheme == "http" and here:
            raise SourceError("private-address", f"it leads to {_named(parts.hostname)}, a private address")
    raise SourceError("insecure", f"it leads to {parts.scheme[:20]}://{_named(parts.hostname)}: only https is followed")


def reach_of(url: str, source: str) -> Reach:
    """A source may be anywhere; its redirects must lead to public addresses (or from loopback to loopback)."""
    if url == source:
        return "any"
    return "public or here" if urlsplit(source).hostname in LOOPBACK_HOSTS else "public"


def _named(host: str | None) -> str:
    return (host or "nowhere")[:80]


def connect_to(
    address: tuple[str, int], timeout: Any = None, source_address: Any = None, *, reach: Reach
) -> socket.socket:
    """Connect, then check the peer's address: a public name may resolve to a private one."""
    connected = socket.create_connection(address, timeout, source_address)
    reached = ipaddress.ip_address(connected.getpeername()[0].split("%")[0])
    mapped = getattr(reached, "ipv4_mapped", None) or reached
    if reach == "any" or mapped.is_global or (reach == "public or here" and mapped.is_loopback):
        return connected
    connected.close()
    raise SourceError("private-address", f"it leads to {_named(address[0])}, an address inside the network")


def proxy_for(scheme: str, host: str, port: int) -> tuple[str, int] | None:
    """Return host and port of the proxy that the environment sets for this address, if any.

    Raises SourceError where it makes no sense.
    """
    if scheme != "https" or host in LOOPBACK_HOSTS or urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    named = urllib.request.getproxies().get("https")
    if not named:
        return None
    try:
        parts = urlsplit(named if "//" in named else f"//{named}")
        if parts.hostname:
            return parts.hostname, parts.port or 8080
    except ValueError:
        pass
    raise SourceError("unreachable", "the proxy in the environment is no address", "correct https_proxy")
