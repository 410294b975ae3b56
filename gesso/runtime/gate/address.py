"""The addresses of an instance: what to paste into Krita, and which other origins may use it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gesso.errors import CheckError
from gesso.runtime.gate import private_file, tokens
from gesso.runtime.layout import PUBLIC_PORT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gesso.runtime.layout import Layout

_ADMIN, _PUBLIC = "GESSO_ADMIN_ORIGIN", "GESSO_PUBLIC_URL"
_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:[1-9]\d{0,4})?\Z", re.ASCII)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}  # ports that browsers omit


def normalised(origin: str) -> str:
    """Return an origin as browsers write it; empty if it is none."""
    found = _ORIGIN.match(origin.lower())
    if found is None or int((found[4] or ":1")[1:]) > 65535:
        return ""
    return f"{found[1]}://{found[2]}{'' if found[4] == _DEFAULT_PORTS[found[1]] else found[4] or ''}"


def admin_origin(env: Mapping[str, str]) -> str:
    """Return the only other origin whose pages may use the API, as browsers write it; empty if none is set.

    Raises CheckError for anything but exactly one origin.
    """
    given = env.get(_ADMIN, "")
    if given and not normalised(given):
        wrong = f"{_ADMIN}: {given[:80]!r} is not exactly one origin"
        raise CheckError(
            wrong, "give scheme://host or scheme://host:port, without a path, such as https://admin.example"
        )
    return normalised(given)


def public_url(env: Mapping[str, str]) -> str:
    """Return the instance's public URL as GESSO_PUBLIC_URL gives it, without a slash at the end; empty if it is unset.

    Raises CheckError for anything but scheme, host and port.
    """
    given = env.get(_PUBLIC, "")
    found = normalised(given.removesuffix("/"))
    if given and not found:
        step = "give http://HOST:PORT or https://HOST, without a path and without the token"
        raise CheckError(f"{_PUBLIC}: {given[:80]!r} is not the URL of a server", step)
    return found


def is_public(env: Mapping[str, str]) -> bool:
    """Return whether the environment names the public address."""
    return bool(env.get(_PUBLIC) or env.get("PUBLIC_IPADDR"))


def port_note(env: Mapping[str, str]) -> str:
    """Return a note for people if the port in `url` may not be the published one; empty if it is known."""
    if env.get(_PUBLIC) or (env.get("PUBLIC_IPADDR") and env.get(f"VAST_TCP_PORT_{PUBLIC_PORT}")):
        return ""
    return (
        f"note: {PUBLIC_PORT} is the port inside the container; the published one may differ (`docker port` shows it). "
        f"Set {_PUBLIC}=http://HOST:PORT to get the full URL"
    )


def url(layout: Layout, env: Mapping[str, str]) -> str:
    """Return the URL to paste into Krita: the public one if the environment names it, else for this machine.

    Creates nothing. Raises CheckError if there is no token yet.
    """
    token = tokens.known(layout, env)
    if public := public_url(env):
        return f"{public}/{token}"
    host = env.get("PUBLIC_IPADDR") or "127.0.0.1"
    if ":" in host:
        host = f"[{host}]"
    port = env.get(f"VAST_TCP_PORT_{PUBLIC_PORT}") or str(PUBLIC_PORT)
    return f"http{'s' * _uses_tls(layout)}://{host}:{port}/{token}"


def _uses_tls(layout: Layout) -> bool:
    """Return whether the gate was started with a certificate: a later session lacks the environment."""
    return "\n\ttls " in private_file.read(layout.run / "Caddyfile")
