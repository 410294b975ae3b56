"""The name of an image in a registry, taken apart: host, path, tag, digest. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import ip_address

from gesso.errors import ManifestError

HUB = "docker.io"
DEFAULT_NAME = "gesso"
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Reference:
    """One repository in a registry, and where given a tag or a digest in it."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """Host and path: what stands before tag and digest."""
        return f"{self.host}/{self.path}"

    @property
    def version(self) -> str:
        """What a manifest is asked for by."""
        return self.digest or self.tag or "latest"

    @property
    def is_loopback(self) -> bool:
        """True for a registry on this machine: Docker speaks plain HTTP to those, and nobody else sees them."""
        name = re.sub(r":\d+\Z", "", self.host).strip("[]")
        try:
            return ip_address(name).is_loopback
        except ValueError:
            return name.lower() == "localhost"

    def tagged(self, tag: str) -> Reference:
        """The same repository at a tag."""
        return replace(self, tag=tag, digest="")

    def at(self, digest: str) -> Reference:
        """The same repository at a digest."""
        return replace(self, tag="", digest=digest)

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Read HOST/PATH[:TAG][@DIGEST] as Docker does: without a host it is Docker Hub's.

    Raises ManifestError that says what is wrong.
    """
    rest, _, digest = text.partition("@")
    if digest and not DIGEST.match(digest):
        raise _wrong(text, f"{digest[:80]!r} is no sha256 digest")
    rest, tag = _without_tag(rest)
    if tag and not _TAG.match(tag):
        raise _wrong(text, f"{tag[:80]!r} is no tag")
    first, slash, path = rest.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, path = HUB, rest
    if first == HUB and "/" not in path:
        path = f"library/{path}"
    host = HUB if first == f"index.{HUB}" else first
    if not _HOST.match(host) or not _PATH.match(path):
        raise _wrong(text, "a repository is HOST/NAME in lower case")
    return Reference(host, path, tag, digest)


def repository(text: str) -> Reference:
    """Read what `--registry` names: HOST/PATH, or a host alone, to which gesso's own name is added.

    Raises ManifestError.
    """
    bare = text.removesuffix("/")
    if _HOST.match(bare) and "/" not in bare and ("." in bare or ":" in bare or bare == "localhost"):
        bare = f"{bare}/{DEFAULT_NAME}"
    found = parse(bare)
    if found.tag or found.digest:
        raise _wrong(text, "the tags are gesso's own")
    return found


def is_remote(text: str) -> bool:
    """Tell whether a name leads to a registry; one without a host is the engine's own."""
    first, slash, _ = text.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def _without_tag(text: str) -> tuple[str, str]:
    head, colon, tail = text.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (text, "")


def _wrong(text: str, why: str) -> ManifestError:
    return ManifestError(f"{text[:120]!r}: {why}", "name it like ghcr.io/OWNER/gesso or localhost:5000/gesso")
