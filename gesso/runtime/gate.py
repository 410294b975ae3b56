"""The gate: Caddy on the one public port, which lets in who knows the token and answers 401 to everybody else."""

from __future__ import annotations

import os
import re
import secrets
from typing import TYPE_CHECKING

from gesso.errors import CheckError
from gesso.runtime.layout import COMFY_PORT, PUBLIC_PORT, Layout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")

# `path_regexp`: Caddy's `path` ignores case. `redir *`: a bare first word with a slash would be taken for a matcher.
# `exclude http`: Caddy's own error lines carry the request's address, and the token is part of it.
_CADDYFILE = """\
{{
\tadmin off
\tauto_https off
\tlog default {{
\t\toutput stderr
\t\texclude http
\t}}
}}

:{public} {{
\theader {{
\t\tReferrer-Policy no-referrer
\t\t-Server
\t\tdefer
\t}}
\t@bare path_regexp ^/{token}$
\thandle @bare {{
\t\tredir * /{token}/ 308
\t}}
\t@path path_regexp ^/{token}/
\thandle @path {{
\t\turi strip_prefix /{token}
\t\treverse_proxy 127.0.0.1:{comfy}
\t}}
\t@bearer header Authorization "Bearer {token}"
\thandle @bearer {{
\t\treverse_proxy 127.0.0.1:{comfy} {{
\t\t\theader_up -Authorization
\t\t}}
\t}}
\thandle {{
\t\theader WWW-Authenticate `Bearer realm="gesso"`
\t\theader Content-Type "text/plain; charset=utf-8"
\t\trespond "401: this server wants its token. Use the address that `gesso url` prints on the instance." 401
\t}}
\thandle_errors {{
\t\theader Retry-After 5
\t\trespond "ComfyUI is starting; try again in a few seconds." 503
\t}}
}}
"""


def token(layout: Layout, env: Mapping[str, str]) -> str:
    """Give the token: GESSO_TOKEN, else Vast's OPEN_BUTTON_TOKEN, else one made at the first boot and kept.

    Raises CheckError for a token that would not keep anybody out.
    """
    for name in ("GESSO_TOKEN", "OPEN_BUTTON_TOKEN"):
        if value := env.get(name):
            if not _TOKEN.match(value):
                raise CheckError(f"{name}: must be 16 to 128 letters, digits, - or _", f"set another {name}, or none")
            return value
    path = layout.state / "token"
    if path.is_file() and _TOKEN.match(kept := path.read_text(encoding="ascii", errors="replace").strip()):
        return kept
    made = secrets.token_urlsafe(32)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_private(path, made + "\n")
    return made


def configure(layout: Layout, env: Mapping[str, str]) -> None:
    """Write Caddy's configuration, readable by its owner alone."""
    effective = token(layout, env)
    text = _CADDYFILE.format(public=PUBLIC_PORT, comfy=COMFY_PORT, token=effective)
    layout.run.mkdir(parents=True, exist_ok=True)
    _write_private(layout.run / "token", effective + "\n")
    _write_private(layout.run / "Caddyfile", text)


def address(layout: Layout, env: Mapping[str, str]) -> str:
    """Give the URL to paste into Krita: public on Vast.ai, else for this machine."""
    host = env.get("PUBLIC_IPADDR") or "127.0.0.1"
    port = env.get(f"VAST_TCP_PORT_{PUBLIC_PORT}") or str(PUBLIC_PORT)
    return f"http://{host}:{port}/{_in_force(layout, env)}"


def _in_force(layout: Layout, env: Mapping[str, str]) -> str:
    """Give the token that the gate was started with: a later SSH session does not have the container's environment."""
    try:
        return (layout.run / "token").read_text(encoding="ascii").strip()
    except OSError:
        return token(layout, env)


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        os.fchmod(handle, 0o600)  # where one was left over, its mode would have stayed
        file.write(text)
    temporary.replace(path)
