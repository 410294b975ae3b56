"""Read an image in the engine: its id, labels and layers, and files from it without starting it."""

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
from gesso.builder.registry.tar_stream import TarStream
from gesso.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Instructions that change the image's config and make no layer.
_NO_LAYER = re.compile(
    r"(?:/bin/sh -c #\(nop\)\s+)?(?:ENV|LABEL|EXPOSE|HEALTHCHECK|ENTRYPOINT|CMD|ARG|USER|SHELL|VOLUME|STOPSIGNAL)\b"
)
_READ_TIMEOUT = 900  # seconds: the engine sends nothing while it reads a large layer


@dataclass(frozen=True)
class LocalLayer:
    """An unpacked layer: digest of its tar, size in bytes (None: unknown), the instruction that made it."""

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
    """Yield a client of the engine that the docker command uses: DOCKER_HOST, else the current context's.

    Raises BuildError where none responds.
    """
    try:
        if env.get("DOCKER_HOST"):
            client = docker.from_env(timeout=_READ_TIMEOUT)
        else:
            result = proc.run(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], timeout=10)
            host = result.stdout.strip() if result.ok else ""
            client = docker.DockerClient(base_url=host or None, timeout=_READ_TIMEOUT, use_ssh_client=True)
    except DockerException as error:
        raise BuildError(f"no Docker engine answers: {str(error)[:200]}", HOW_TO_START) from None
    with closing(client):
        yield client


def read(client: docker.DockerClient, reference: str) -> LocalImage:
    """Inspect an image in the engine.

    Raises BuildError where it does not exist.
    """
    try:
        api: Any = client.api
        facts: dict[str, Any] = api.inspect_image(reference)
        history: list[dict[str, Any]] = api.history(reference)
    except ImageNotFound:
        raise BuildError(f"the engine has no image {reference}", "build it with `invoke build`") from None
    except (DockerException, requests.RequestException) as error:
        raise BuildError(f"the engine cannot inspect {reference}: {str(error)[:200]}", HOW_TO_START) from None
    return LocalImage(
        reference,
        str(facts["Id"]),
        dict((facts.get("Config") or {}).get("Labels") or {}),
        str(facts.get("Created", "")),
        int(facts["Size"]),
        pair(facts["RootFS"].get("Layers") or [], history),
    )


def pair(diff_ids: Sequence[str], history: Sequence[Mapping[str, Any]]) -> tuple[LocalLayer, ...]:
    """Match layers with the engine's history (newest first). Pure.

    Where their numbers differ, as with an image of another builder, `made_by` is empty.
    """
    rows = [row for row in reversed(history) if row.get("Size") or not _NO_LAYER.match(str(row.get("CreatedBy")))]
    if len(rows) != len(diff_ids):
        return tuple(LocalLayer(diff_id, None, "") for diff_id in diff_ids)
    return tuple(
        LocalLayer(diff_id, int(row["Size"]), instruction(str(row.get("CreatedBy") or "")))
        for diff_id, row in zip(diff_ids, rows, strict=True)
    )


def files(client: docker.DockerClient, image_id: str, paths: Sequence[str]) -> dict[str, bytes]:
    """Read files, or the names in folders (paths with a trailing slash; no content), from an image.

    Creates a container and never starts it. Raises BuildError for a missing path.
    """
    try:
        container = client.api.create_container(image_id, entrypoint=["none"], labels={"dev.gesso.reads": "1"})
    except (DockerException, requests.RequestException) as error:
        raise BuildError(f"the engine cannot read the image: {str(error)[:200]}", HOW_TO_START) from None
    try:
        return dict(row for path in paths for row in _archived(client, container["Id"], path))
    except NotFound as error:
        raise BuildError(
            f"the image lacks one of gesso's files: {error.explanation}", "build it with `invoke build`"
        ) from None
    except (APIError, requests.RequestException, tarfile.TarError) as error:
        raise BuildError(f"the engine cannot read the image: {str(error)[:200]}", HOW_TO_START) from None
    finally:
        with suppress(DockerException, requests.RequestException):
            client.api.remove_container(container["Id"], force=True, v=True)


def _archived(client: docker.DockerClient, container: str, path: str) -> Iterator[tuple[str, bytes]]:
    stream, _ = client.api.get_archive(container, path.removesuffix("/"))
    with tarfile.open(fileobj=TarStream(stream), mode="r|") as archive:
        for member in archive:
            if path.endswith("/"):
                yield f"{path.rsplit('/', 2)[0]}/{member.name}", b""
            elif member.isfile() and (file := archive.extractfile(member)) is not None:
                yield path, file.read()


def record(files_of_image: Mapping[str, bytes], path: str = "/opt/gesso/build.json") -> dict[str, Any]:
    """Parse an image's build.json.

    Raises BuildError where it is not one.
    """
    try:
        found = json.loads(files_of_image[path])
    except (KeyError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise BuildError(f"{path}: not the record of a gesso image", "build the image with `invoke build`")
    return found
