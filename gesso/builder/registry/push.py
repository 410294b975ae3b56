"""The push: the engine sends the layers and says how far it is; what fails for the moment is begun again.

The engine asks the registry for every layer first, so whatever has arrived is never sent twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests
from docker.errors import APIError, DockerException

from gesso.errors import PublishError
from gesso.proc import redact
from gesso.retry import TRIES, Clock, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import docker

    from gesso.builder.registry.credentials import Login
    from gesso.builder.registry.local_image import LocalImage
    from gesso.builder.registry.reference import Reference

# What does not get better by trying again, in the words of engines and registries.
_LASTING = (
    "denied", "unauthorized", "authentication required", "no basic auth credentials", "insufficient_scope",
    "no such host", "x509", "http response to https client", "name invalid", "name unknown", "quota", "too large",
    "does not exist", "tag does not exist", "unsupported",
)  # fmt: skip
_STATES = {
    "Preparing": "waits", "Waiting": "waits", "Pushing": "moves", "Pushed": "pushed", "Layer already exists": "there",
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """News of one layer (the start of its diff id): what becomes of it, and its bytes so far."""

    layer: str
    state: str  # waits, moves, pushed, there, mounted, retries
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Told:
    """How a push ended: the manifest's digest, or the reason why there is none."""

    digest: str = ""
    error: str = ""


def push(
    client: docker.DockerClient,
    image: LocalImage,
    target: Reference,
    login: Login,
    tell: tuple[Callable[[Step], None], Callable[[str], None]],
    clock: Clock | None = None,
) -> str:
    """Push an image to a tag and give the digest of its manifest. The engine's own tags are left as they were.

    `tell` is told of each layer, and in words. Raises PublishError.
    """
    on_step, say = tell
    clock = clock or Clock()
    is_ours = _tag(client, image, target)
    try:
        for number, wait in enumerate((*waits(), None), 1):
            told = _once(client, target, login, on_step)
            if told.digest:
                return told.digest
            if wait is None or is_lasting(told.error):
                raise _refused(target, told.error)
            say(f"{told.error}; again in {wait:g} s (try {number + 1} of {TRIES})")
            clock.sleep(wait)
    finally:
        if is_ours:
            _untag(client, target)
    raise AssertionError


def is_lasting(error: str) -> bool:
    """Tell whether an error would come again. Pure."""
    return any(word in error.lower() for word in _LASTING)


def listen(lines: Iterable[Mapping[str, Any]], on_step: Callable[[Step], None]) -> Told:
    """Follow the engine's account of a push to its end. Pure, but for whom it tells."""
    digest = error = ""
    for line in lines:
        if "error" in line or "errorDetail" in line:
            error = str((line.get("errorDetail") or {}).get("message") or line.get("error"))
        elif aux := line.get("aux"):
            digest = str(aux.get("Digest", digest))
        elif (layer := line.get("id")) and (state := _state(str(line.get("status", "")))):
            detail = line.get("progressDetail") or {}
            on_step(Step(str(layer), state, int(detail.get("current", 0)), int(detail.get("total", 0))))
    if error or not digest:
        return Told(error=redact(error or "the engine ended the push without a digest"))
    return Told(digest)


def _state(status: str) -> str:
    if status.startswith("Mounted from"):
        return "mounted"
    return "retries" if status.startswith("Retrying") else _STATES.get(status, "")


def _once(client: docker.DockerClient, target: Reference, login: Login, on_step: Callable[[Step], None]) -> Told:
    who = {"username": login.user, "password": login.password, "identitytoken": login.identity}
    auth = {key: value for key, value in who.items() if value} | {"serveraddress": target.host}
    try:
        lines = client.api.push(target.repository, target.tag, stream=True, decode=True, auth_config=auth)
        return listen(lines, on_step)
    except APIError as error:
        return Told(error=redact(str(error.explanation or error)))
    except (DockerException, requests.RequestException) as error:
        return Told(error=f"the engine broke off: {redact(str(error))[:200]}")


def _refused(target: Reference, error: str) -> PublishError:
    known = {
        ("no basic auth", "authentication required", "unauthorized", "denied", "insufficient_scope"):
            f"`docker login {target.host}` with an account or token that may push to {target.path}",
        ("x509", "http response to https client"):
            f"give the engine the registry's CA: /etc/docker/certs.d/{target.host}/ca.crt",
        ("no such host",): "check the registry's name, and the engine's network",
        ("quota", "too large"): "make room there, or ask those who run the registry",
    }  # fmt: skip
    said = error.lower()
    step = next((step for words, step in known.items() if any(word in said for word in words)), "")
    return PublishError(
        f"{target}: the push failed: {error[:300]}", step or "see that the registry runs, then again: it goes on"
    )


def _tag(client: docker.DockerClient, image: LocalImage, target: Reference) -> bool:
    """Name the image as its registry wants it; tell whether that name is ours to take away again.

    It is not where it was there before, nor where it is the image's only one: without any the engine drops the image.
    """
    try:
        api: Any = client.api
        before = api.inspect_image(image.image_id).get("RepoTags") or []
        api.tag(image.image_id, target.repository, target.tag)
    except (DockerException, requests.RequestException) as error:
        raise PublishError(f"{target}: the engine cannot tag the image: {error}", "see that it is there") from None
    return bool(before) and str(target) not in before


def _untag(client: docker.DockerClient, target: Reference) -> None:
    try:
        client.api.remove_image(str(target), noprune=True)
    except (DockerException, requests.RequestException):
        return  # a name too many in the engine is no reason to fail
