"""Push an image through the engine, with progress by layer and retries of transient failures.

The engine queries the registry for every layer first, so no layer is sent twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests
from docker.errors import APIError, DockerException

from gesso.errors import PublishError
from gesso.redact import redact_urls
from gesso.retry import TRIES, Clock, backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import docker

    from gesso.builder.registry.credentials import Login
    from gesso.builder.registry.local_image import LocalImage
    from gesso.builder.registry.reference import Reference

# Errors that a retry does not fix, as engines and registries write them.
_PERMANENT_ERRORS = (
    "denied", "unauthorized", "authentication required", "no basic auth credentials", "insufficient_scope",
    "no such host", "x509", "http response to https client", "name invalid", "name unknown", "quota", "too large",
    "does not exist", "tag does not exist", "unsupported",
)  # fmt: skip
_STATES = {
    "Preparing": "waiting", "Waiting": "waiting", "Pushing": "pushing", "Pushed": "pushed",
    "Layer already exists": "exists",
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """Progress of one layer (the start of its diff id): its state, and its bytes so far."""

    layer: str
    state: str  # waiting, pushing, pushed, exists, mounted, retrying
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class PushOutcome:
    """The result of a push: the manifest's digest, or the error."""

    digest: str = ""
    error: str = ""


def push(
    client: docker.DockerClient,
    image: LocalImage,
    target: Reference,
    login: Login,
    callbacks: tuple[Callable[[Step], None], Callable[[str], None]],
    clock: Clock | None = None,
) -> str:
    """Push an image to a tag and return the digest of its manifest. The engine's own tags stay unchanged.

    `callbacks`: `on_step` for each layer, `on_progress` for lines of text. Raises PublishError.
    """
    on_step, on_progress = callbacks
    clock = clock or Clock()
    is_temporary = _tag(client, image, target)
    try:
        for number, wait in enumerate((*backoff(), None), 1):
            outcome = _attempt(client, target, login, on_step)
            if outcome.digest:
                return outcome.digest
            if wait is None or is_permanent(outcome.error):
                raise _push_error(target, outcome.error)
            on_progress(f"{outcome.error}; retrying in {wait:g} s (attempt {number + 1} of {TRIES})")
            clock.sleep(wait)
    finally:
        if is_temporary:
            _untag(client, target)
    raise AssertionError


def is_permanent(error: str) -> bool:
    """Check whether a retry would fail with the same error. Pure."""
    return any(word in error.lower() for word in _PERMANENT_ERRORS)


def listen(lines: Iterable[Mapping[str, Any]], on_step: Callable[[Step], None]) -> PushOutcome:
    """Read the engine's progress of a push to its end. Pure, except for `on_step`."""
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
        return PushOutcome(error=redact_urls(error or "the engine ended the push without a digest"))
    return PushOutcome(digest)


def _state(status: str) -> str:
    if status.startswith("Mounted from"):
        return "mounted"
    return "retrying" if status.startswith("Retrying") else _STATES.get(status, "")


def _attempt(
    client: docker.DockerClient, target: Reference, login: Login, on_step: Callable[[Step], None]
) -> PushOutcome:
    fields = {"username": login.user, "password": login.password, "identitytoken": login.identity}
    auth = {key: value for key, value in fields.items() if value} | {"serveraddress": target.host}
    try:
        lines = client.api.push(target.repository, target.tag, stream=True, decode=True, auth_config=auth)
        return listen(lines, on_step)
    except APIError as error:
        return PushOutcome(error=redact_urls(str(error.explanation or error)))
    except (DockerException, requests.RequestException) as error:
        return PushOutcome(error=f"the connection to the engine failed: {redact_urls(str(error))[:200]}")


def _push_error(target: Reference, error: str) -> PublishError:
    known = {
        ("no basic auth", "authentication required", "unauthorized", "denied", "insufficient_scope"):
            f"`docker login {target.host}` with an account or token that may push to {target.path}",
        ("x509", "http response to https client"):
            f"install the registry's CA for the engine: /etc/docker/certs.d/{target.host}/ca.crt",
        ("no such host",): "check the registry's name, and the engine's network",
        ("quota", "too large"): "free space in the registry, or contact its operator",
    }  # fmt: skip
    text = error.lower()
    step = next((step for words, step in known.items() if any(word in text for word in words)), "")
    return PublishError(
        f"{target}: the push failed: {error[:300]}",
        step or "check that the registry runs, then retry: the push continues",
    )


def _tag(client: docker.DockerClient, image: LocalImage, target: Reference) -> bool:
    """Tag the image for its registry; return whether the tag must be removed after the push.

    Not where it existed before, nor where it is the image's only tag: without any the engine deletes the image.
    """
    try:
        api: Any = client.api
        before = api.inspect_image(image.image_id).get("RepoTags") or []
        api.tag(image.image_id, target.repository, target.tag)
    except (DockerException, requests.RequestException) as error:
        raise PublishError(f"{target}: the engine cannot tag the image: {error}", "check that it exists") from None
    return bool(before) and str(target) not in before


def _untag(client: docker.DockerClient, target: Reference) -> None:
    try:
        client.api.remove_image(str(target), noprune=True)
    except (DockerException, requests.RequestException):
        return  # a leftover tag in the engine is no reason to fail
