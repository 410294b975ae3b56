"""The gate: Caddy on the one public port, which lets in who knows the token and answers 401 to everybody else."""

from __future__ import annotations

import os
import re
import secrets
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from gesso.errors import CheckError
from gesso.runtime.layout import AGENT_PORT, COMFY_PORT, PUBLIC_PORT, Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")
_GIVEN = ("GESSO_TOKEN", "OPEN_BUTTON_TOKEN")
_ASKS = ("OPEN_BUTTON_TOKEN", "1")  # how a template asks Vast.ai for a token: where none came, there is none
_CERT, _KEY = "GESSO_TLS_CERT", "GESSO_TLS_KEY"
_ADMIN = "GESSO_ADMIN_ORIGIN"
_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:[1-9]\d{0,4})?\Z", re.ASCII)
_USUAL = {"http": ":80", "https": ":443"}  # ports that browsers leave out

# Caddy asks the agent about every request (docs/adr/0021): the rules are in gate/decision. Where the agent does not
# answer, whoever has the token in the path or as Bearer still reaches ComfyUI; strangers stay out.
# `gesso=0`: Caddy takes an empty replacement for none, and would set the cookie to the pattern.
# `path_regexp`: Caddy's `path` ignores case. `exclude http`: its own error lines carry the request's address, and the
# token is part of it. `request_header -X-Gesso-Door` comes first: nobody may bring that header along.
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
\t\tforward_auth 127.0.0.1:{agent} {{
\t\t\turi /gate
\t\t\tcopy_headers X-Gesso-Door
\t\t\theader_up -Upgrade-Insecure-Requests
\t\t\ttransport http {{
\t\t\t\tdial_timeout 1s
\t\t\t\tresponse_header_timeout 5s
\t\t\t}}
\t\t}}
\t\t@welcome header X-Gesso-Door welcome
\t\treverse_proxy @welcome 127.0.0.1:{agent} {{
\t\t\trewrite /gate/welcome
\t\t\theader_up X-Forwarded-Method {{method}}
\t\t\theader_up X-Forwarded-Uri {{http.request.orig_uri}}
\t\t}}
\t\t@preflight header X-Gesso-Door preflight
\t\treverse_proxy @preflight 127.0.0.1:{agent} {{
\t\t\trewrite /gate/preflight
\t\t\theader_up X-Forwarded-Method {{method}}
\t\t\theader_up X-Forwarded-Uri {{http.request.orig_uri}}
\t\t}}
\t\t@path header X-Gesso-Door path
\t\turi @path strip_prefix /{token}
\t\t@agent path_regexp ^/(gesso(/|$)|metrics$)
\t\treverse_proxy @agent 127.0.0.1:{agent}
\t\timport comfyui
\t}}
\thandle_errors {{
\t\theader Retry-After 5
\t\theader Cache-Control no-store
\t\t@passed header_regexp X-Gesso-Door .
\t\thandle @passed {{
\t\t\theader Content-Type "text/plain; charset=utf-8"
\t\t\trespond "ComfyUI is starting; look at /gesso/ below this address, or try again in a few seconds." 503
\t\t}}
\t\t@token path_regexp ^/{token}/
\t\t@restarting path_regexp ^/{token}/(gesso(/|$)|metrics$)
\t\thandle @restarting {{
\t\t\theader Content-Type "text/plain; charset=utf-8"
\t\t\trespond "The page is restarting; try again in a few seconds." 503
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
\t\t\theader Content-Type "text/plain; charset=utf-8"
\t\t\theader WWW-Authenticate `Bearer realm="gesso"`
\t\t\trespond "401: this server wants its token. Use the address that `gesso url` prints on the instance." 401
\t\t}}
\t}}
}}
"""


def token(layout: Layout, env: Mapping[str, str]) -> str:
    """Give the token: GESSO_TOKEN, else Vast's OPEN_BUTTON_TOKEN, else one made at the first boot and kept.

    Raises CheckError for a token that would not keep anybody out.
    """
    for name in _GIVEN:
        value = env.get(name)
        if value and (name, value) != _ASKS:
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


def configure(layout: Layout, env: Mapping[str, str], effective: str | None = None) -> None:
    """Write Caddy's configuration, readable by its owner alone; for the token `effective`, where one is in force.

    Raises CheckError for a token that keeps nobody out, a certificate that cannot be used, an origin that is none, and
    a full disk.
    """
    admin_origin(env)
    try:
        effective = effective or token(layout, env)
        layout.run.mkdir(parents=True, exist_ok=True)
        for path, text in _files(layout, env, effective).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_private(path, text)
    except OSError as error:
        raise CheckError(f"{error.filename or layout.run}: {error.strerror}", "make room on the disk") from None


def configured(layout: Layout, env: Mapping[str, str]) -> bool:
    """Tell whether Caddy's configuration, and the token where it is kept, are as they should be.

    Raises CheckError for a certificate that cannot be used.
    """
    try:
        if not (effective := _in_force(layout)):
            return False
        wanted = _files(layout, env, effective)
        return all(path.read_text(encoding="ascii") == text for path, text in wanted.items())
    except (OSError, UnicodeDecodeError):
        return False


def _files(layout: Layout, env: Mapping[str, str], effective: str) -> dict[Path, str]:
    pair = certificate(layout, env)
    text = _CADDYFILE.format(
        public=PUBLIC_PORT, comfy=COMFY_PORT, agent=AGENT_PORT, token=effective,
        scheme="https://" if pair else "", tls=f"\n\ttls {pair[0]} {pair[1]}" if pair else "",
    )  # fmt: skip
    found = {layout.run / "token": effective + "\n", layout.run / "Caddyfile": text}
    given = any(env.get(name) for name in _GIVEN)
    return found if given else found | {layout.state / "token": effective + "\n"}


def admin_origin(env: Mapping[str, str]) -> str:
    """Give the one origin whose pages may use the API, as browsers write it; nothing where none is named.

    Raises CheckError for what is not exactly one origin.
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
    return f"{found[1]}://{found[2]}{'' if found[4] == _USUAL[found[1]] else found[4] or ''}"


def certificate(layout: Layout, env: Mapping[str, str]) -> tuple[Path, Path] | None:
    """Give the files of certificate and key that the environment names, or holds as PEM text; None where it has none.

    Raises CheckError where they do not fit together.
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
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CheckError(f"{_CERT}, {_KEY}: {said}", "give a PEM certificate (with its chain) and its key") from None
    return paths[0], paths[1]


def address(layout: Layout, env: Mapping[str, str]) -> str:
    """Give the URL to paste into Krita: public on Vast.ai, else for this machine."""
    host = env.get("PUBLIC_IPADDR") or "127.0.0.1"
    if ":" in host:
        host = f"[{host}]"
    port = env.get(f"VAST_TCP_PORT_{PUBLIC_PORT}") or str(PUBLIC_PORT)
    return f"http{'s' * _speaks_tls(layout)}://{host}:{port}/{in_force(layout, env)}"


def _speaks_tls(layout: Layout) -> bool:
    """Tell whether the gate was started with a certificate: a later session does not have the environment."""
    try:
        return "\n\ttls " in (layout.run / "Caddyfile").read_text(encoding="ascii")
    except OSError:
        return False


def in_force(layout: Layout, env: Mapping[str, str]) -> str:
    """Give the token that the gate was started with: a later SSH session does not have the container's environment.

    Raises CheckError as `token` does, where that file is gone or is damaged.
    """
    return _in_force(layout) or token(layout, env)


def _in_force(layout: Layout) -> str:
    """Give it as the boot has left it; nothing where it is none that would keep anybody out."""
    try:
        kept = (layout.run / "token").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return kept if _TOKEN.match(kept) else ""


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        os.fchmod(handle, 0o600)  # where one was left over, its mode would have stayed
        file.write(text)
    temporary.replace(path)
