"""A front like Hugging Face's: /OWNER/REPO/resolve/REVISION/FILE answers with a redirect and says what is behind it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from .exchange import Exchange

_ADDRESS = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)$")
GATED = "Access to model {repo} is restricted and you are not in the authorized list."
# What a token may do where a repository is gated; others are like none.
TOKENS = {"good": True, "no-licence": False}


def commit(repo: str, revision: str) -> str:
    """Give the commit of a revision: always the same one, and 40 hex digits as they are."""
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
    """Answer as huggingface.co does; the file is the one that the mirror has under the very path asked for.

    `lfs`: 302 to another host name with X-Linked-Etag and X-Linked-Size; the address is good for so many `uses` or
    `seconds` and refuses an Authorization header. Otherwise (small files) 307 to a relative address and git's tag.
    `gated`: 401 GatedRepo without a token, 403 with the token "no-licence"; the token "good" may.
    `linked`: headers that say something else than the truth.
    """
    if not (found := _ADDRESS.match(x.path)) or not x.request.path.startswith(f"/{found['repo']}/resolve/"):
        return
    token = x.request.headers.get("authorization", "").removeprefix("Bearer ")
    if x.content is None:
        _missing(x, found, token=token)
    elif gated and not TOKENS.get(token):
        known = token in TOKENS
        _error(x, 403 if known else 401, "GatedRepo", GATED.format(repo=found["repo"]))
    elif lfs:
        digest, size = x.content.sha256(), x.content.size
        signed = x.desk.sign(x.path, uses=uses, seconds=seconds, strict=True, etag=f'"{digest[:32]}"')
        x.say(302, "", Location=x.desk.url(signed, host=x.desk.other_name(x.request)))
        for name, value in {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(size), **(linked or {})}.items():
            x.reply.put(name, value)
    else:
        tag = f'"{x.content.sha1()}"'
        x.say(307, "", Location=x.desk.sign(x.path, uses=uses, seconds=seconds, etag=tag), ETag=tag)
    x.reply.put("X-Repo-Commit", commit(found["repo"], found["revision"]))


def _missing(x: Exchange, found: re.Match[str], *, token: str) -> None:
    paths, repo = x.desk.paths(), f"/{found['repo']}/resolve/"
    if not any(path.startswith(repo) for path in paths):
        _error(x, 404 if token in TOKENS else 401, "RepoNotFound", "Repository not found")
    elif not any(path.startswith(f"{repo}{found['revision']}/") for path in paths):
        _error(x, 404, "RevisionNotFound", f"Invalid rev id: {found['revision']}")
    else:
        _error(x, 404, "EntryNotFound", "Entry not found")


def _error(x: Exchange, status: int, code: str, message: str) -> None:
    x.say(status, message, X_Error_Code=code, X_Error_Message=message)
