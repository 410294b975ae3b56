"""The few requests of the OCI distribution API that reading back and tagging need. The engine pushes layers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import requests

from gesso.builder.registry.http import LATER, Wire, json_of, why
from gesso.errors import PublishError
from gesso.proc import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gesso.builder.registry.reference import Reference
    from gesso.retry import Clock

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json", *INDEXES,
)  # fmt: skip
MOST = 16 << 20  # bytes of a manifest or config: real ones have some thousands
_DISTRUST = "do not trust what comes from it; ask those who run it"


@dataclass(frozen=True)
class Answer:
    """A manifest as the registry has it, byte for byte."""

    content: bytes
    media_type: str

    @property
    def digest(self) -> str:
        """What the bytes are, whatever the registry says of them."""
        return digest_of(self.content)


@dataclass(frozen=True)
class Registry:
    """One registry. Everything raises PublishError, with the next step."""

    wire: Wire

    @classmethod
    def of(
        cls, reference: Reference, env: Mapping[str, str], clock: Clock | None = None, *, writes: bool = False
    ) -> Registry:
        """Find the registry of a reference; for one who `writes` there, too, or only reads."""
        return cls(Wire.to(reference, env, clock, writes=writes))

    def manifest(self, reference: Reference) -> Answer | None:
        """Give a manifest by tag or digest; None where there is none.

        One that was asked for by digest is the one of that digest, or an error.
        """
        path = f"/v2/{reference.path}/manifests/{reference.version}"
        answer = self.wire.ask("GET", path, headers={"Accept": ", ".join(MANIFESTS)}, stream=True, missing=True)
        if answer is None:
            return None
        found = Answer(_content(answer, MOST), answer.headers.get("Content-Type", "").split(";")[0])
        if reference.digest and found.digest != reference.digest:
            raise PublishError(f"{reference}: the registry gave {found.digest} for it", _DISTRUST)
        return found

    def put_manifest(self, reference: Reference, manifest: Answer) -> None:
        """Have a tag lead to a manifest whose layers are there already."""
        path = f"/v2/{reference.path}/manifests/{reference.version}"
        self.wire.ask("PUT", path, headers={"Content-Type": manifest.media_type}, data=manifest.content)

    def blob(self, reference: Reference, digest: str, limit: int = MOST) -> bytes:
        """Give a small blob, verified; `limit` in bytes."""
        answer = self.wire.ask("GET", f"/v2/{reference.path}/blobs/{digest}", stream=True)
        assert answer is not None
        content = _content(answer, limit)
        if digest_of(content) != digest:
            raise PublishError(f"{reference.at(digest)}: the registry gave other bytes", _DISTRUST)
        return content

    def blob_size(self, reference: Reference, digest: str) -> int | None:
        """Give the size of a blob in bytes, as the registry says; None where it has none."""
        answer = self.wire.ask("HEAD", f"/v2/{reference.path}/blobs/{digest}", missing=True, allow_redirects=True)
        return None if answer is None else int(answer.headers.get("Content-Length", -1))

    def tags(self, reference: Reference) -> list[str]:
        """Name the tags of a repository; none where there is no such repository."""
        found: set[str] = set()
        path: str | None = f"/v2/{reference.path}/tags/list?n=1000"
        while path is not None:
            answer = self.wire.ask("GET", path, missing=True)
            if answer is None:
                break
            found |= {str(tag) for tag in json_of(answer).get("tags") or ()}
            more = answer.links.get("next", {}).get("url")
            path = _path_of(urljoin(self.wire.base + path, more)) if more else None
        return sorted(found)


def digest_of(content: bytes) -> str:
    """Give the digest by which a registry knows these bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def _content(answer: requests.Response, limit: int) -> bytes:
    try:
        return b"".join(_up_to(answer, limit))
    except requests.RequestException as error:
        raise PublishError(f"the registry's answer was cut off: {why(error)}", LATER) from None


def _up_to(answer: requests.Response, limit: int) -> Iterator[bytes]:
    seen = 0
    for part in answer.iter_content(1 << 16):
        seen += len(part)
        if seen > limit:
            raise PublishError(f"{redact(answer.url)}: larger than {limit} bytes", "this is no image that gesso made")
        yield part
