"""What model hosts and registries say of a file or a tag, from headers alone: for `invoke lock`, online."""

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
_TIMEOUT = (4, 8)  # seconds to connect, to answer


@dataclass(frozen=True)
class Said:
    """What a host says of a file; None where it does not say."""

    url: str
    sha256: str | None = None
    size: int | None = None


class OutOfReachError(Exception):
    """The host did not answer (`host_is_down`), or not in a way that tells anything about the file."""

    def __init__(self, message: str, *, host_is_down: bool = False) -> None:
        super().__init__(message)
        self.host_is_down = host_is_down


def ask_model_host(url: str, env: Mapping[str, str], session: requests.Session) -> Said:
    """Ask one source of a model for its sha256, size and revision.

    Raises OutOfReachError, with the reason in words.
    """
    parts = urlsplit(url)
    try:
        if parts.hostname == "huggingface.co" and (match := HF_PATH.match(parts.path)):
            return _ask_hugging_face(match, env, session)
        if parts.hostname == "civitai.com" and (match := _CIVITAI_PATH.match(parts.path)):
            return _ask_civitai(url, match["version"], env, session)
    except requests.RequestException as error:
        raise OutOfReachError(f"{parts.hostname}: {type(error).__name__}", host_is_down=True) from None
    raise OutOfReachError(f"{parts.hostname}: gives no sha256 in its headers")


def _ask_hugging_face(match: re.Match[str], env: Mapping[str, str], session: requests.Session) -> Said:
    """HEAD on the resolve address: the answer before the redirect carries what the repository knows of the file."""
    url = f"{endpoint(env)}/{match['repo']}/resolve/{match['revision']}/{match['file']}"
    headers = {"Accept-Encoding": "identity", **authorization(url, env)}
    answer = session.head(url, headers=headers, allow_redirects=False, timeout=_TIMEOUT)
    if code := answer.headers.get("X-Error-Code"):
        raise OutOfReachError(f"huggingface.co: {code} for {match['repo']}")
    if answer.status_code not in {200, 302, 307}:
        raise OutOfReachError(f"huggingface.co: HTTP {answer.status_code} for {match['repo']}")
    said = announced(answer.headers)
    revision = answer.headers.get("X-Repo-Commit") or match["revision"]
    return Said(f"{HUGGING_FACE}/{match['repo']}/resolve/{revision}/{match['file']}", said.sha256, said.size)


def _ask_civitai(url: str, version: str, env: Mapping[str, str], session: requests.Session) -> Said:
    """Ask its API: HEAD on a download address is refused even with a good token."""
    address = f"{CIVITAI}/api/v1/model-versions/{version}"
    answer = session.get(address, headers=authorization(address, env), timeout=_TIMEOUT)
    if answer.status_code != 200:
        raise OutOfReachError(f"civitai.com: HTTP {answer.status_code} for version {version}")
    try:
        files = answer.json()["files"]
        digests = [str(f["hashes"]["SHA256"]).lower() for f in files if f.get("primary", len(files) == 1)]
    except (ValueError, KeyError, TypeError):
        raise OutOfReachError(f"civitai.com: an answer without hashes for version {version}") from None
    return Said(url, digests[0] if digests and _SHA256.match(digests[0]) else None)


def ask_registry(image: str) -> str:
    """Ask a registry for the digest that a tag has now (the index of all platforms, where there is one).

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
        raise OutOfReachError(f"registry of {image}: an answer without a digest") from None
