"""Configure the gate: Caddy on the only public port. Requests without the token get 401."""

from __future__ import annotations

import json
import os
import re
import secrets
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from gesso.errors import CheckError
from gesso.runtime.layout import COMFY_PORT, PUBLIC_PORT, Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")
_TOKEN_VARIABLES = ("GESSO_TOKEN", "OPEN_BUTTON_TOKEN")
_TOKEN_REQUEST = ("OPEN_BUTTON_TOKEN", "1")  # a template's request to Vast.ai for a token, not a token itself
_CERT, _KEY = "GESSO_TLS_CERT", "GESSO_TLS_KEY"
_ADMIN = "GESSO_ADMIN_ORIGIN"
_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:[1-9]\d{0,4})?\Z", re.ASCII)
UNAUTHORIZED = "Token missing or wrong: paste the whole URL, http://HOST:PORT/TOKEN"  # Krita shows one short line
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}  # ports that browsers omit

# Caddy asks the agent about every request (docs/adr/0021): the rules are in gate/decision. While the agent does not
# answer, requests with the token in the path or as Bearer still reach ComfyUI; all others are refused.
# `gesso=0`: Caddy takes an empty replacement for none, and would set the cookie to the pattern.
# `path_regexp`: Caddy's `path` ignores case. `exclude http`: its error lines contain the request's URL, and so the
# token. `request_header -X-Gesso-Door` comes first: clients must not send that header.
_CADDYFILE = """\
{{
\tadmin off
\tauto_https off
\tlog default {{
\t\toutput stderr
\t\texclude http
\t}}
}}

(comfyui) {{
\treverse_proxy 127.0.0.1:{comfy} {{
\t\theader_up -Authorization
\t\theader_up -X-Gesso-Door
\t\theader_up Cookie "gesso-[0-9a-f]+=[^;]*" "gesso=0"
\t}}
}}

{scheme}:{public} {{{tls}
\theader {{
\t\tReferrer-Policy no-referrer
\t\tX-Frame-Options SAMEORIGIN
\t\t-Server
\t\tdefer
\t}}
\troute {{
\t\trequest_header -X-Gesso-Door
\t\tforward_auth {agent} {{
\t\t\turi /gate
\t\t\tcopy_headers X-Gesso-Door
\t\t\theader_up -Upgrade-Insecure-Requests
\t\t\ttransport http {{
\t\t\t\tdial_timeout 1s
\t\t\t\tresponse_header_timeout 5s
\t\t\t}}
\t\t}}
\t\t@welcome header X-Gesso-Door welcome
\t\treverse_proxy @welcome {agent} {{
\t\t\trewrite /gate/welcome
\t\t\theader_up X-Forwarded-Method {{method}}
\t\t\theader_up X-Forwarded-Uri {{http.request.orig_uri}}
\t\t}}
\t\t@preflight header X-Gesso-Door preflight
\t\treverse_proxy @preflight {agent} {{
\t\t\trewrite /gate/preflight
\t\t\theader_up X-Forwarded-Method {{method}}
\t\t\theader_up X-Forwarded-Uri {{http.request.orig_uri}}
\t\t}}
\t\t@path header X-Gesso-Door path
\t\turi @path strip_prefix /{token}
\t\t@agent path_regexp ^/(gesso(/|$)|metrics$)
\t\treverse_proxy @agent {agent}
\t\timport comfyui
\t}}
\thandle_errors {{
\t\theader Retry-After 5
\t\theader Cache-Control no-store
\t\t@html header Accept *text/html*
\t\t@passed header_regexp X-Gesso-Door .
\t\thandle @passed {{
{starting}
\t\t}}
\t\t@token path_regexp ^/{token}/
\t\t@restarting path_regexp ^/{token}/(gesso(/|$)|metrics$)
\t\thandle @restarting {{
{restarting}
\t\t}}
\t\thandle @token {{
\t\t\turi strip_prefix /{token}
\t\t\timport comfyui
\t\t}}
\t\t@bearer header Authorization "Bearer {token}"
\t\thandle @bearer {{
\t\t\timport comfyui
\t\t}}
\t\thandle {{
\t\t\theader WWW-Authenticate `Bearer realm="gesso"`
{unauthorized}
\t\t}}
\t}}
}}
"""


def _reply(message: str, status: int, refresh: int = 0) -> str:
    """Return the directives that answer with a short error: JSON, of which Krita shows `error`, or a page for browsers.

    `refresh`: seconds after which a browser retries, 0 for never.
    """
    lead = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{lead}<title>gesso</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"></head>'
        f"<body><main><h1>gesso</h1><p>{message}</p></main></body></html>"
    )
    lines = [  # in a route, for Caddy sorts other directives, and then the page would be called JSON
        "route {", "\theader Content-Type application/json",
        '\theader @html Content-Type "text/html; charset=utf-8"', f"\trespond @html `{page}` {status}",
        f"\trespond `{json.dumps({'error': message})}` {status}", "}",
    ]  # fmt: skip
    return "\n".join(f"\t\t\t{line}" for line in lines)


def token(layout: Layout, env: Mapping[str, str]) -> str:
    """Return the token: GESSO_TOKEN, else Vast's OPEN_BUTTON_TOKEN, else the stored one, generated at the first boot.

    Raises CheckError for a token that is too weak.
    """
    for name in _TOKEN_VARIABLES:
        value = env.get(name)
        if value and (name, value) != _TOKEN_REQUEST:
            if not _TOKEN.match(value):
                raise CheckError(
                    f"{name}: must be 16 to 128 letters, digits, - or _", f"set another {name}, or unset it"
                )
            return value
    path = layout.state / "token"
    if path.is_file() and _TOKEN.match(stored := path.read_text(encoding="ascii", errors="replace").strip()):
        return stored
    made = secrets.token_urlsafe(32)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_private(path, made + "\n")
    return made


def configure(layout: Layout, env: Mapping[str, str], active: str | None = None) -> None:
    """Write Caddy's configuration, readable by its owner only; for the token `active`, if one is in use.

    Raises CheckError for a weak token, an unusable certificate, an invalid origin, and a full disk.
    """
    admin_origin(env)
    try:
        active = active or token(layout, env)
        layout.run.mkdir(parents=True, exist_ok=True)
        for path, text in _files(layout, env, active).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_private(path, text)
    except OSError as error:
        raise CheckError(f"{error.filename or layout.run}: {error.strerror}", "make room on the disk") from None


def is_configured(layout: Layout, env: Mapping[str, str]) -> bool:
    """Return whether Caddy's configuration and the stored token are as expected.

    Raises CheckError for an unusable certificate.
    """
    try:
        if not (active := _stored_active_token(layout)):
            return False
        expected = _files(layout, env, active)
        return all(path.read_text(encoding="ascii") == text for path, text in expected.items())
    except (OSError, UnicodeDecodeError):
        return False


def _files(layout: Layout, env: Mapping[str, str], active: str) -> dict[Path, str]:
    pair = certificate(layout, env)
    text = _CADDYFILE.format(
        public=PUBLIC_PORT, comfy=COMFY_PORT, agent=f"unix/{layout.agent_socket}", token=active,
        starting=_reply("ComfyUI is starting; try again in a few seconds.", 503, 5),
        restarting=_reply("The page is starting; it reloads by itself in a few seconds.", 503, 3),
        unauthorized=_reply(UNAUTHORIZED, 401),
        scheme="https://" if pair else "", tls=f"\n\ttls {pair[0]} {pair[1]}" if pair else "",
    )  # fmt: skip
    found = {layout.run / "token": active + "\n", layout.run / "Caddyfile": text}
    given = any(env.get(name) for name in _TOKEN_VARIABLES)
    return found if given else found | {layout.state / "token": active + "\n"}


def admin_origin(env: Mapping[str, str]) -> str:
    """Return the only other origin whose pages may use the API, as browsers write it; empty if none is set.

    Raises CheckError for anything but exactly one origin.
    """
    given = env.get(_ADMIN, "")
    if not given:
        return ""
    found = _ORIGIN.match(given.lower())
    if found is None or int((found[4] or ":1")[1:]) > 65535:
        wrong = f"{_ADMIN}: {given[:80]!r} is not exactly one origin"
        raise CheckError(
            wrong, "give scheme://host or scheme://host:port, without a path, such as https://admin.example"
        )
    return f"{found[1]}://{found[2]}{'' if found[4] == _DEFAULT_PORTS[found[1]] else found[4] or ''}"


def certificate(layout: Layout, env: Mapping[str, str]) -> tuple[Path, Path] | None:
    """Return the certificate and key files that the environment names, or contains as PEM text; None without them.

    Raises CheckError if they do not match.
    """
    given = {name: env.get(name, "") for name in (_CERT, _KEY)}
    if not any(given.values()):
        return None
    if not all(given.values()):
        raise CheckError(f"{_CERT} and {_KEY}: only one of them is set", "set both, or neither")
    paths: list[Path] = []
    for name, value in given.items():
        path = Path(value)
        if value.lstrip().startswith("-----BEGIN"):
            path = layout.run / f"{name.lower()}.pem"
            layout.run.mkdir(parents=True, exist_ok=True)
            _write_private(path, f"{value.strip()}\n")
        paths.append(path)
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(paths[0], paths[1])
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CheckError(f"{_CERT}, {_KEY}: {reason}", "give a PEM certificate (with its chain) and its key") from None
    return paths[0], paths[1]


def url(layout: Layout, env: Mapping[str, str]) -> str:
    """Return the URL to paste into Krita: public on Vast.ai, else for this machine."""
    host = env.get("PUBLIC_IPADDR") or "127.0.0.1"
    if ":" in host:
        host = f"[{host}]"
    port = env.get(f"VAST_TCP_PORT_{PUBLIC_PORT}") or str(PUBLIC_PORT)
    return f"http{'s' * _uses_tls(layout)}://{host}:{port}/{active_token(layout, env)}"


def _uses_tls(layout: Layout) -> bool:
    """Return whether the gate was started with a certificate: a later session lacks the environment."""
    try:
        return "\n\ttls " in (layout.run / "Caddyfile").read_text(encoding="ascii")
    except OSError:
        return False


def active_token(layout: Layout, env: Mapping[str, str]) -> str:
    """Return the token that the gate was started with: a later SSH session lacks the container's environment.

    Raises CheckError as `token` does, if its file is missing or damaged.
    """
    return _stored_active_token(layout) or token(layout, env)


def _stored_active_token(layout: Layout) -> str:
    """Return the token as the boot stored it; empty if it is missing or invalid."""
    try:
        stored = (layout.run / "token").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return stored if _TOKEN.match(stored) else ""


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        os.fchmod(handle, 0o600)  # an old temporary file would have kept its mode
        file.write(text)
    temporary.replace(path)
