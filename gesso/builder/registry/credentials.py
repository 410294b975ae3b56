"""Credentials and CA certificates for a registry, from Docker's credential store and certificate folder."""

from __future__ import annotations

import ssl
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker.auth
from docker.errors import DockerException

from gesso.builder.registry.reference import HUB
from gesso.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Mapping

CERTIFICATES = Path("/etc/docker/certs.d")


@dataclass(frozen=True)
class Login:
    """A user name and a password, or an identity token (`identity`)."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.user or self.identity)


def find(host: str, env: Mapping[str, str]) -> Login:
    """Return the login that `docker login` stored for a registry; an empty one where there is none.

    Raises PublishError where the store cannot be read.
    """
    folder = env.get("DOCKER_CONFIG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a missing helper raises an error after the warning
            config = docker.auth.load_config(str(Path(folder) / "config.json") if folder else None)
            found: dict[str, Any] = docker.auth.resolve_authconfig(config, registry=host) or {}
    except (DockerException, OSError, ValueError) as error:
        raise PublishError(
            f"Docker's credential store cannot be read: {error}", f"`docker login {host}` shows what is wrong"
        ) from None
    values = {str(key).lower(): str(value) for key, value in found.items() if value}
    return Login(values.get("username", ""), values.get("password", ""), values.get("identitytoken", ""))


def ca_file(host: str, folder: Path = CERTIFICATES) -> Path | None:
    """Return the CA certificate that Docker trusts for a registry in addition to the system's, if any."""
    found = sorted((folder / host).glob("*.crt")) if host != HUB else []
    return found[0] if found else None


def ssl_context(host: str, folder: Path = CERTIFICATES) -> ssl.SSLContext:
    """Return the SSL context for a registry: the system's CAs (or SSL_CERT_FILE) and Docker's CA for it.

    Raises PublishError where that CA cannot be read.
    """
    context = ssl.create_default_context()
    own = ca_file(host, folder)
    if own is not None:
        try:
            context.load_verify_locations(own)
        except (OSError, ssl.SSLError) as error:
            raise PublishError(f"{own}: not a readable certificate ({error})", "fix or remove the file") from None
    return context
