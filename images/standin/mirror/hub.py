"""Hugging Face's download URLs: /OWNER/REPO/resolve/REVISION/FILE redirects to the file and describes it in headers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from .exchange import Exchange

_ADDRESS = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)$")
GATED = "Access to model {repo} is restricted and you are not in the authorized list."
# Whether a token grants access to a gated repository; other tokens are treated like none.
TOKENS = {"good": True, "no-licence": False}


def commit(repo: str, revision: str) -> str:
    """Return the commit of a revision: 40 hex digits unchanged, otherwise always the same one."""
    return revision if re.fullmatch(r"[0-9a-f]{40}", revision) else hashlib.sha256(repo.encode()).hexdigest()[:40]


def resolve(
    x: Exchange,
    *,
    gated: bool = False,
    lfs: bool = True,
    uses: int | None = None,
    seconds: float | None = None,
    linked: Mapping[str, str] | None = None,
) -> None:
    """Respond as huggingface.co does; the file is the mirror's under the requested path.

    `lfs`: 302 to another host name with X-Linked-Etag and X-Linked-Size; the URL is valid for `uses` requests or
    `seconds` and rejects an Authorization header. Otherwise (small files) 307 to a relative URL with git's tag.
    `gated`: 401 GatedRepo without a token, 403 with the token "no-licence"; the token "good" is accepted.
    `linked`: headers that override the correct ones.
    """
    if not (found := _ADDRESS.match(x.path)) or not x.request.path.startswith(f"/{found['repo']}/resolve/"):
        return
    token = x.request.headers.get("authorization", "").removeprefix("Bearer ")
    if x.content is None:
        _missing(x, found, token=token)
    elif gated and not TOKENS.get(token):
        _error(x, 403 if token in TOKENS else 401, "GatedRepo", GATED.format(repo=found["repo"]))
    elif lfs:
        digest, size = x.content.sha256(), x.content.size
        signed = x.mirror.sign(x.path, uses=uses, seconds=seconds, strict=True, etag=f'"{digest[:32]}"')
        x.respond(302, "", Location=x.mirror.url(signed, host=x.mirror.other_name(x.request)))
        for name, value in {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(size), **(linked or {})}.items():
            x.response.put(name, value)
    else:
        tag = f'"{x.content.sha1()}"'
        x.respond(307, "", Location=x.mirror.sign(x.path, uses=uses, seconds=seconds, etag=tag), ETag=tag)
    x.response.put("X-Repo-Commit", commit(found["repo"], found["revision"]))


def _missing(x: Exchange, found: re.Match[str], *, token: str) -> None:
    paths, repo = x.mirror.paths(), f"/{found['repo']}/resolve/"
    if not any(path.startswith(repo) for path in paths):
        _error(x, 404 if token in TOKENS else 401, "RepoNotFound", "Repository not found")
    elif not any(path.startswith(f"{repo}{found['revision']}/") for path in paths):
        _error(x, 404, "RevisionNotFound", f"Invalid rev id: {found['revision']}")
    else:
        _error(x, 404, "EntryNotFound", "Entry not found")


def _error(x: Exchange, status: int, code: str, message: str) -> None:
    x.respond(status, message, X_Error_Code=code, X_Error_Message=message)
