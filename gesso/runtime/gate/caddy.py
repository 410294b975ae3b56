"""Configure the gate: Caddy on the only public port. Requests without the token get 401."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import small_files
from gesso.errors import CheckError
from gesso.runtime.gate import address, caddyfile, private_file, tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.runtime.layout import Layout

_CERT, _KEY = "GESSO_TLS_CERT", "GESSO_TLS_KEY"


def token(layout: Layout, env: Mapping[str, str], on_progress: Callable[[str], None] = lambda _: None) -> str:
    """Return the token: GESSO_TOKEN, else Vast's OPEN_BUTTON_TOKEN, else the stored one, generated at the first boot.

    Raises CheckError for a token that is too weak.
    """
    return tokens.choose(layout, env, on_progress)


def active_token(
    layout: Layout, env: Mapping[str, str], on_progress: Callable[[str], None] = lambda _: None
) -> str:  # fmt: skip
    """Return the token that the gate was started with: a later SSH session lacks the container's environment.

    Raises CheckError as `token` does, if its file is missing or damaged.
    """
    return tokens.active(layout) or token(layout, env, on_progress)


def configure(
    layout: Layout, env: Mapping[str, str], active: str | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> None:  # fmt: skip
    """Write Caddy's configuration, readable by its owner only; for the token `active`, if one is in use.

    Raises CheckError for a weak token, an unusable certificate, an invalid origin or URL, and a full disk.
    """
    address.admin_origin(env)
    address.public_url(env)
    try:
        active = active or token(layout, env, on_progress)
        layout.run.mkdir(parents=True, exist_ok=True)
        tokens.ensure_instance_id(layout)
        tokens.cookie_key(layout)
        for path, text in _files(layout, env, active).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            private_file.write(path, text)
    except OSError as error:
        raise CheckError(f"{error.filename or layout.run}: {error.strerror}", "make room on the disk") from None


def is_configured(layout: Layout, env: Mapping[str, str]) -> bool:
    """Return whether Caddy's configuration and the stored token are as expected.

    Raises CheckError for an unusable certificate.
    """
    active = tokens.active(layout)
    if not active or not tokens.instance_id(layout):
        return False
    try:
        expected = _files(layout, env, active)
        return all(small_files.read(path) == text.encode("utf-8", "surrogateescape") for path, text in expected.items())
    except OSError:
        return False


def _files(layout: Layout, env: Mapping[str, str], active: str) -> dict[Path, str]:
    site = caddyfile.Site(
        active, tokens.instance_id(layout), layout.agent_socket, layout.comfyui_socket, certificate(layout, env)
    )
    found = {layout.run / "token": active + "\n", layout.run / "Caddyfile": caddyfile.text(site)}
    given = any(env.get(name) for name in tokens.VARIABLES)
    return found if given else found | {layout.state / "token": active + "\n"}


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
            if private_file.read(path) != value.strip():  # the watch of the gate asks often
                private_file.write(path, f"{value.strip()}\n")
        paths.append(path)
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(paths[0], paths[1])
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CheckError(f"{_CERT}, {_KEY}: {reason}", "give a PEM certificate (with its chain) and its key") from None
    return paths[0], paths[1]
