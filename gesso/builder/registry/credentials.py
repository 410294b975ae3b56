"""Who we are to a registry, and whom we trust: as Docker keeps it, in its store and its folder of certificates."""

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
    """A name and a password, or a token that stands for both (`identity`)."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.user or self.identity)


def find(host: str, env: Mapping[str, str]) -> Login:
    """Give what `docker login` left for a registry; an empty one where there is nothing.

    Raises PublishError where the store cannot be read.
    """
    folder = env.get("DOCKER_CONFIG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a helper that is not there is warned of, and then an error
            config = docker.auth.load_config(str(Path(folder) / "config.json") if folder else None)
            found: dict[str, Any] = docker.auth.resolve_authconfig(config, registry=host) or {}
    except (DockerException, OSError, ValueError) as error:
        raise PublishError(
            f"Docker's store of credentials cannot be read: {error}", f"`docker login {host}` shows what is wrong"
        ) from None
    known = {str(key).lower(): str(value) for key, value in found.items() if value}
    return Login(known.get("username", ""), known.get("password", ""), known.get("identitytoken", ""))


def certificate(host: str, folder: Path = CERTIFICATES) -> Path | None:
    """Give the CA that Docker trusts for a registry beside the system's own, if there is one."""
    found = sorted((folder / host).glob("*.crt")) if host != HUB else []
    return found[0] if found else None


def trust(host: str, folder: Path = CERTIFICATES) -> ssl.SSLContext:
    """Give what a registry's certificate is held against: the system's CAs (or SSL_CERT_FILE) and Docker's for it.

    Raises PublishError where that CA cannot be read.
    """
    context = ssl.create_default_context()
    own = certificate(host, folder)
    if own is not None:
        try:
            context.load_verify_locations(own)
        except (OSError, ssl.SSLError) as error:
            raise PublishError(f"{own}: no certificate can be read from it ({error})", "put it right") from None
    return context
