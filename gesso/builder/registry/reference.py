"""Parse image references: host, path, tag, digest. Pure."""

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
    """A repository in a registry, optionally with a tag or a digest."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """Host and path, without tag and digest."""
        return f"{self.host}/{self.path}"

    @property
    def version(self) -> str:
        """The tag or digest in a manifest's URL."""
        return self.digest or self.tag or "latest"

    @property
    def is_loopback(self) -> bool:
        """True for a registry on this machine: Docker uses plain HTTP for those, and others cannot reach them."""
        name = re.sub(r":\d+\Z", "", self.host).strip("[]")
        try:
            return ip_address(name).is_loopback
        except ValueError:
            return name.lower() == "localhost"

    def tagged(self, tag: str) -> Reference:
        """Return the same repository with a tag."""
        return replace(self, tag=tag, digest="")

    def at(self, digest: str) -> Reference:
        """Return the same repository with a digest."""
        return replace(self, tag="", digest=digest)

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Parse HOST/PATH[:TAG][@DIGEST] as Docker does: the default host is Docker Hub.

    Raises ManifestError with the reason.
    """
    rest, _, digest = text.partition("@")
    if digest and not DIGEST.match(digest):
        raise _wrong(text, f"{digest[:80]!r} is not a sha256 digest")
    rest, tag = _without_tag(rest)
    if tag and not _TAG.match(tag):
        raise _wrong(text, f"{tag[:80]!r} is not a tag")
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
    """Parse the value of `--registry`: HOST/PATH, or a host alone, to which `gesso` is added.

    Raises ManifestError.
    """
    bare = text.removesuffix("/")
    if _HOST.match(bare) and "/" not in bare and ("." in bare or ":" in bare or bare == "localhost"):
        bare = f"{bare}/{DEFAULT_NAME}"
    found = parse(bare)
    if found.tag or found.digest:
        raise _wrong(text, "gesso sets the tags itself")
    return found


def is_remote(text: str) -> bool:
    """Check whether a name is in a registry; one without a host is in the engine."""
    first, slash, _ = text.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def _without_tag(text: str) -> tuple[str, str]:
    head, colon, tail = text.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (text, "")


def _wrong(text: str, why: str) -> ManifestError:
    return ManifestError(f"{text[:120]!r}: {why}", "use a name like ghcr.io/OWNER/gesso or localhost:5000/gesso")
