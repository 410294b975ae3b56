"""OCI distribution client: the few endpoints needed to read back and tag an image. The engine pushes layers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import requests

from gesso.builder.registry.http import RETRY_LATER, HttpClient, json_of, reason_of
from gesso.errors import PublishError
from gesso.redact import redact_urls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gesso.builder.registry.reference import Reference
    from gesso.retry import Clock

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json", *INDEXES,
)  # fmt: skip
MAX_BYTES = 16 << 20  # of a manifest or config: real ones have a few thousand
_DISTRUST = "do not trust this registry; contact its operator"


@dataclass(frozen=True)
class RawManifest:
    """A manifest as the registry returned it, byte for byte."""

    content: bytes
    media_type: str

    @property
    def digest(self) -> str:
        """The digest of the bytes, whatever the registry's headers say."""
        return digest_of(self.content)


@dataclass(frozen=True)
class Registry:
    """One registry. Everything raises PublishError, with the next step."""

    http: HttpClient

    @classmethod
    def of(
        cls, reference: Reference, env: Mapping[str, str], clock: Clock | None = None, *, writes: bool = False
    ) -> Registry:
        """Create a client for the registry of a reference; `writes`: it also pushes."""
        return cls(HttpClient.for_registry(reference, env, clock, writes=writes))

    def manifest(self, reference: Reference) -> RawManifest | None:
        """Return a manifest by tag or digest; None where there is none.

        A manifest requested by digest is verified.
        """
        path = f"/v2/{reference.path}/manifests/{reference.version}"
        response = self.http.request("GET", path, headers={"Accept": ", ".join(MANIFESTS)}, stream=True, missing=True)
        if response is None:
            return None
        found = RawManifest(_content(response, MAX_BYTES), response.headers.get("Content-Type", "").split(";")[0])
        if reference.digest and found.digest != reference.digest:
            raise PublishError(f"{reference}: the registry returned {found.digest}", _DISTRUST)
        return found

    def put_manifest(self, reference: Reference, manifest: RawManifest) -> None:
        """Point a tag to a manifest whose layers exist already."""
        path = f"/v2/{reference.path}/manifests/{reference.version}"
        self.http.request("PUT", path, headers={"Content-Type": manifest.media_type}, data=manifest.content)

    def blob(self, reference: Reference, digest: str, limit: int = MAX_BYTES) -> bytes:
        """Return a small blob, verified; `limit` in bytes."""
        response = self.http.request("GET", f"/v2/{reference.path}/blobs/{digest}", stream=True)
        assert response is not None
        content = _content(response, limit)
        if digest_of(content) != digest:
            raise PublishError(f"{reference.at(digest)}: the registry returned other content", _DISTRUST)
        return content

    def blob_size(self, reference: Reference, digest: str) -> int | None:
        """Return the size of a blob in bytes, as the registry reports it; None where the blob does not exist."""
        response = self.http.request("HEAD", f"/v2/{reference.path}/blobs/{digest}", missing=True, allow_redirects=True)
        return None if response is None else int(response.headers.get("Content-Length", -1))

    def tags(self, reference: Reference) -> list[str]:
        """Return the tags of a repository; none where it does not exist."""
        found: set[str] = set()
        path: str | None = f"/v2/{reference.path}/tags/list?n=1000"
        while path is not None:
            response = self.http.request("GET", path, missing=True)
            if response is None:
                break
            found |= {str(tag) for tag in json_of(response).get("tags") or ()}
            more = response.links.get("next", {}).get("url")
            path = _path_of(urljoin(self.http.base + path, more)) if more else None
        return sorted(found)


def digest_of(content: bytes) -> str:
    """Return the digest of these bytes, as registries write it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def _content(response: requests.Response, limit: int) -> bytes:
    try:
        return b"".join(_chunks(response, limit))
    except requests.RequestException as error:
        raise PublishError(f"the registry's response was cut off: {reason_of(error)}", RETRY_LATER) from None


def _chunks(response: requests.Response, limit: int) -> Iterator[bytes]:
    seen = 0
    for part in response.iter_content(1 << 16):
        seen += len(part)
        if seen > limit:
            raise PublishError(
                f"{redact_urls(response.url)}: larger than {limit} bytes", "this is not an image made by gesso"
            )
        yield part
