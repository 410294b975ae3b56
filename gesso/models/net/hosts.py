"""Rules of model hosts: mirrors, tokens, and the meaning of their errors. Pure.

Sources: huggingface_hub (`HF_ENDPOINT`, `X-Error-Code`, `X-Linked-*`); Civitai's API pages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from gesso.models.faults import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gesso.models.faults import SourceWhy

HUGGING_FACE = "https://huggingface.co"
CIVITAI = "https://civitai.com"
HF_PATH = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>[^?]+)")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Announced:
    """What a host announces about a file in its headers; None if it does not."""

    sha256: str | None = None
    size: int | None = None


def endpoint(env: Mapping[str, str]) -> str:
    """Return Hugging Face's URL, or that of the mirror in HF_ENDPOINT."""
    return (env.get("HF_ENDPOINT") or HUGGING_FACE).rstrip("/")


def address(url: str, env: Mapping[str, str]) -> str:
    """Return the URL to request for a source: on the mirror, if HF_ENDPOINT sets one."""
    return endpoint(env) + url.removeprefix(HUGGING_FACE) if url.startswith(f"{HUGGING_FACE}/") else url


def authorization(url: str, env: Mapping[str, str]) -> dict[str, str]:
    """Return the Authorization header for this origin (scheme, host, port) only, or none."""
    tokens = {
        endpoint(env): env.get("HF_TOKEN") or env.get("HUGGING_FACE_HUB_TOKEN"),
        CIVITAI: env.get("CIVITAI_TOKEN"),
    }
    token = next((t for base, t in tokens.items() if t and _same_origin(base, url)), None)
    usable = token is not None and re.fullmatch(r"[!-~]+", token.strip())
    return {"Authorization": f"Bearer {token.strip()}"} if token is not None and usable else {}


def _same_origin(one: str, other: str) -> bool:
    try:
        return origin(urlsplit(one)) == origin(urlsplit(other))
    except ValueError:  # HF_ENDPOINT may not be a URL
        return False


def origin(parts: SplitResult) -> tuple[str, str, int]:
    """Return scheme, host and port: the origin that may see a token."""
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)


def announced(headers: Mapping[str, str]) -> Announced:
    """Read what Hugging Face's response announces about the file, before its redirect."""
    lower = {name.lower(): value for name, value in headers.items()}
    etag = lower.get("x-linked-etag", "").removeprefix("W/").strip('"')
    size = lower.get("x-linked-size", "")
    return Announced(etag if _SHA256.match(etag) else None, int(size) if re.fullmatch(r"[0-9]{1,18}", size) else None)


def refusal(status: int, headers: Mapping[str, str], url: str, *, with_token: bool) -> SourceError:
    """Return the error for an unsuccessful response, with the next step."""
    code = {name.lower(): value for name, value in headers.items()}.get("x-error-code", "")
    parts = urlsplit(url)
    hugging = HF_PATH.match(parts.path)
    host = parts.netloc.rpartition("@")[2]
    page = f"{parts.scheme}://{host}/{hugging['repo']}" if hugging else f"the file's page on {parts.hostname}"
    token = "CIVITAI_TOKEN" if parts.hostname == "civitai.com" else "HF_TOKEN"
    if code == "GatedRepo" or (status == 403 and hugging and with_token):
        step = f"accept the licence at {page}" + ("" if with_token else f", then set {token} to your token")
        return SourceError("gated", f"HTTP {status}: its licence must be accepted first", step)
    if code in _GONE:
        return SourceError("not-found", f"HTTP {status}: {_GONE[code]}", f"look at {page}, then correct `sources`")
    if status == 401 and with_token:
        return SourceError("bad-token", f"HTTP 401: {token} is not accepted", f"set {token} to a valid token")
    if status == 401 and not hugging and parts.hostname != "civitai.com":
        step = "give the manifest another source: there are tokens for Hugging Face and Civitai alone"
        return SourceError("needs-token", "HTTP 401: it requires a login", step)
    why, said, step = _MEANING.get(status) or _MEANING[status // 100]
    transient = why in {"rate-limited", "server-error"}
    step = step.format(page=page, token=token)
    return SourceError(why, f"HTTP {status}: {said}", step, transient=transient)


_GONE = {
    "RepoNotFound": "the repository is gone, renamed or private",
    "EntryNotFound": "the file has moved",
    "RevisionNotFound": "the revision is gone",
}
_MOVED = "look at {page}, then correct `sources` in the manifest"
_LATER = "try again later"
_NO_FILE: tuple[SourceWhy, str, str] = ("refused-request", "an answer that is no file", "look at {page}")
# What a status means: the whole number, else its first digit.
_MEANING: dict[int, tuple[SourceWhy, str, str]] = {
    401: ("needs-token", "it wants a token", "set {token}; see {page}"),
    403: ("forbidden", "it refuses", "look at {page}: it may want {token}, or block you"),
    404: ("not-found", "the file has moved or is gone", _MOVED),
    408: ("server-error", "the server gave up waiting", _LATER),
    410: ("gone", "the file is gone for good", _MOVED),
    416: ("bad-range", "it has no such range: its file is shorter than the lock says", _MOVED),
    425: ("server-error", "the server wants it later", _LATER),
    429: ("rate-limited", "too many requests", "try again later; a token raises the limit"),
    **dict.fromkeys((1, 2, 3, 4, 6, 7, 8, 9), _NO_FILE),
    5: ("server-error", "the server failed", _LATER),
}
