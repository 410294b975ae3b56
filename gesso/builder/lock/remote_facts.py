"""Metadata from model hosts and registries, without downloading: sha256 and size of a file, digest of a tag."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests

from gesso import proc
from gesso.errors import GessoError
from gesso.models.net.hosts import CIVITAI, HF_PATH, HUGGING_FACE, announced, authorization, endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_CIVITAI_PATH = re.compile(r"/api/download/models/(?P<version>\d+)\Z")
_TIMEOUT = (4, 8)  # seconds to connect, to read


@dataclass(frozen=True)
class RemoteFacts:
    """A host's metadata of a file; None where the host sends none."""

    url: str
    sha256: str | None = None
    size: int | None = None


class OutOfReachError(Exception):
    """The host did not respond (`host_is_down`), or its response says nothing about the file."""

    def __init__(self, message: str, *, host_is_down: bool = False) -> None:
        super().__init__(message)
        self.host_is_down = host_is_down


def query_model_host(url: str, env: Mapping[str, str], session: requests.Session) -> RemoteFacts:
    """Query one source of a model for its sha256, size and revision.

    Raises OutOfReachError with the reason.
    """
    parts = urlsplit(url)
    try:
        if parts.hostname == "huggingface.co" and (match := HF_PATH.match(parts.path)):
            return _query_hugging_face(match, env, session)
        if parts.hostname == "civitai.com" and (match := _CIVITAI_PATH.match(parts.path)):
            return _query_civitai(url, match["version"], env, session)
    except requests.RequestException as error:
        raise OutOfReachError(f"{parts.hostname}: {type(error).__name__}", host_is_down=True) from None
    raise OutOfReachError(f"{parts.hostname}: sends no sha256 in its headers")


def _query_hugging_face(match: re.Match[str], env: Mapping[str, str], session: requests.Session) -> RemoteFacts:
    """Send HEAD to the resolve URL: the response before the redirect has the repository's metadata of the file."""
    url = f"{endpoint(env)}/{match['repo']}/resolve/{match['revision']}/{match['file']}"
    headers = {"Accept-Encoding": "identity", **authorization(url, env)}
    response = session.head(url, headers=headers, allow_redirects=False, timeout=_TIMEOUT)
    if code := response.headers.get("X-Error-Code"):
        raise OutOfReachError(f"huggingface.co: {code} for {match['repo']}")
    if response.status_code not in {200, 302, 307}:
        raise OutOfReachError(f"huggingface.co: HTTP {response.status_code} for {match['repo']}")
    metadata = announced(response.headers)
    revision = response.headers.get("X-Repo-Commit") or match["revision"]
    return RemoteFacts(
        f"{HUGGING_FACE}/{match['repo']}/resolve/{revision}/{match['file']}", metadata.sha256, metadata.size
    )


def _query_civitai(url: str, version: str, env: Mapping[str, str], session: requests.Session) -> RemoteFacts:
    """Query the API: HEAD on a download URL is refused even with a valid token."""
    address = f"{CIVITAI}/api/v1/model-versions/{version}"
    response = session.get(address, headers=authorization(address, env), timeout=_TIMEOUT)
    if response.status_code != 200:
        raise OutOfReachError(f"civitai.com: HTTP {response.status_code} for version {version}")
    try:
        files = response.json()["files"]
        digests = [str(f["hashes"]["SHA256"]).lower() for f in files if f.get("primary", len(files) == 1)]
    except (ValueError, KeyError, TypeError):
        raise OutOfReachError(f"civitai.com: response without hashes for version {version}") from None
    return RemoteFacts(url, digests[0] if digests and _SHA256.match(digests[0]) else None)


def query_registry(image: str) -> str:
    """Query a registry for the current digest of a tag (of its index of all platforms, where there is one).

    Raises OutOfReachError.
    """
    command = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{json .Manifest}}"]
    try:
        result = proc.run(command, timeout=8)
    except GessoError as error:
        raise OutOfReachError(error.message) from None
    if not result.ok:
        raise OutOfReachError(f"registry of {image}: {result.tail(1)}")
    try:
        return str(json.loads(result.stdout)["digest"])
    except (ValueError, KeyError, TypeError):
        raise OutOfReachError(f"registry of {image}: response without a digest") from None
