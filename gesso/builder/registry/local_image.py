"""An image as the engine has it: its id, labels and layers, and files out of it without starting it."""

from __future__ import annotations

import json
import re
import tarfile
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from gesso import proc
from gesso.builder.image.engine import HOW_TO_START
from gesso.builder.registry.remote_image import instruction
from gesso.builder.registry.tar_stream import Chunks
from gesso.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Instructions that change the image's config and make no layer.
_NO_LAYER = re.compile(
    r"(?:/bin/sh -c #\(nop\)\s+)?(?:ENV|LABEL|EXPOSE|HEALTHCHECK|ENTRYPOINT|CMD|ARG|USER|SHELL|VOLUME|STOPSIGNAL)\b"
)
_PATIENCE = 900  # seconds between two words of the engine: it is silent while it reads a large layer


@dataclass(frozen=True)
class LocalLayer:
    """A layer unpacked: the digest of its tar, its size in bytes (None: not known), the instruction that made it."""

    diff_id: str
    size: int | None
    made_by: str


@dataclass(frozen=True)
class LocalImage:
    """One image in the engine's store; `created` is RFC 3339, `size` in bytes."""

    reference: str
    image_id: str
    labels: Mapping[str, str]
    created: str
    size: int
    layers: tuple[LocalLayer, ...]


@contextmanager
def engine(env: Mapping[str, str]) -> Iterator[docker.DockerClient]:
    """Give a client of the engine that the docker command talks to: DOCKER_HOST, else the current context's.

    Raises BuildError where none answers.
    """
    try:
        if env.get("DOCKER_HOST"):
            client = docker.from_env(timeout=_PATIENCE)
        else:
            asked = proc.run(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], timeout=10)
            host = asked.stdout.strip() if asked.ok else ""
            client = docker.DockerClient(base_url=host or None, timeout=_PATIENCE, use_ssh_client=True)
    except DockerException as error:
        raise BuildError(f"no Docker engine answers: {str(error)[:200]}", HOW_TO_START) from None
    with closing(client):
        yield client


def read(client: docker.DockerClient, reference: str) -> LocalImage:
    """Ask the engine for an image.

    Raises BuildError where it does not have it.
    """
    try:
        found: Any = client.api
        facts: dict[str, Any] = found.inspect_image(reference)
        history: list[dict[str, Any]] = found.history(reference)
    except ImageNotFound:
        raise BuildError(f"the engine has no image {reference}", "build it with `invoke build`") from None
    except (DockerException, requests.RequestException) as error:
        raise BuildError(f"the engine does not say what {reference} is: {str(error)[:200]}", HOW_TO_START) from None
    return LocalImage(
        reference,
        str(facts["Id"]),
        dict((facts.get("Config") or {}).get("Labels") or {}),
        str(facts.get("Created", "")),
        int(facts["Size"]),
        pair(facts["RootFS"].get("Layers") or [], history),
    )


def pair(diff_ids: Sequence[str], history: Sequence[Mapping[str, Any]]) -> tuple[LocalLayer, ...]:
    """Put layers and the engine's history (newest first) side by side. Pure.

    Where they do not fit, as with an image of another builder, the layers stay nameless.
    """
    rows = [row for row in reversed(history) if row.get("Size") or not _NO_LAYER.match(str(row.get("CreatedBy")))]
    if len(rows) != len(diff_ids):
        return tuple(LocalLayer(diff_id, None, "") for diff_id in diff_ids)
    return tuple(
        LocalLayer(diff_id, int(row["Size"]), instruction(str(row.get("CreatedBy") or "")))
        for diff_id, row in zip(diff_ids, rows, strict=True)
    )


def files(client: docker.DockerClient, image_id: str, paths: Sequence[str]) -> dict[str, bytes]:
    """Read files, or the names under folders (with a slash at the end, and no content), out of an image.

    A container is made for it and never started. Raises BuildError for a path that is not there.
    """
    try:
        made = client.api.create_container(image_id, entrypoint=["none"], labels={"dev.gesso.reads": "1"})
    except (DockerException, requests.RequestException) as error:
        raise BuildError(f"the engine cannot read the image: {str(error)[:200]}", HOW_TO_START) from None
    try:
        return dict(row for path in paths for row in _archived(client, made["Id"], path))
    except NotFound as error:
        raise BuildError(f"the image lacks a file that gesso puts there: {error.explanation}", "build it") from None
    except (APIError, requests.RequestException, tarfile.TarError) as error:
        raise BuildError(f"the engine cannot read the image: {str(error)[:200]}", HOW_TO_START) from None
    finally:
        with suppress(DockerException, requests.RequestException):
            client.api.remove_container(made["Id"], force=True, v=True)


def _archived(client: docker.DockerClient, container: str, path: str) -> Iterator[tuple[str, bytes]]:
    stream, _ = client.api.get_archive(container, path.removesuffix("/"))
    with tarfile.open(fileobj=Chunks(stream), mode="r|") as archive:
        for member in archive:
            if path.endswith("/"):
                yield f"{path.rsplit('/', 2)[0]}/{member.name}", b""
            elif member.isfile() and (file := archive.extractfile(member)) is not None:
                yield path, file.read()


def record(files_of_image: Mapping[str, bytes], path: str = "/opt/gesso/build.json") -> dict[str, Any]:
    """Read an image's own record of what it is made of.

    Raises BuildError where it is none.
    """
    try:
        found = json.loads(files_of_image[path])
    except (KeyError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise BuildError(f"{path}: not the record of a gesso image", "build the image with `invoke build`")
    return found
