"""Possible secrets in any layer (also if a later one removes it), in the config and in the history."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

from gesso.redact import is_secret_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from .image_snapshot import Finding, ImageSnapshot

_OURS = "the value of "
_LONG = 8  # characters; a shorter value would be found everywhere by chance

# Forms that no ordinary text has, as documented by their issuers, each with a literal to search for first: that is a
# hundred times as fast.
_FORMS = {
    "a Hugging Face token": (b"hf_", rb"hf_(?<![A-Za-z0-9_]hf_)[A-Za-z0-9]{34}(?![A-Za-z0-9])"),
    "a GitHub token": (b"gh", rb"gh[pousr]_(?<![A-Za-z0-9]gh._)[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    "a fine-grained GitHub token": (b"github_pat_", rb"github_pat_[A-Za-z0-9_]{82}"),
    "a package index's token": (b"pypi-AgE", rb"pypi-AgE[A-Za-z0-9_-]{60,}"),
    "an AWS key": (b"AKIA", rb"AKIA(?<![A-Za-z0-9]AKIA)[0-9A-Z]{16}(?![A-Za-z0-9])"),
    "a Slack token": (b"xox", rb"xox[abprs]-[0-9]{8,}-[0-9A-Za-z-]{10,}"),
    "a private key": (b"PRIVATE KEY-----", rb"-----BEGIN [A-Z ]{0,12}PRIVATE KEY-----\s*[A-Za-z0-9+/=\s]{120,}"),
    "an address with a password": (b"://", rb"://[A-Za-z0-9._~%+-]{1,64}:[^\s/@:'\"<>{}$\\]{6,128}@[a-z0-9.-]+"),
    "a registry login": (b'"auth"', rb'"auth"\s*:\s*"[A-Za-z0-9+/]{16,}={0,2}"'),
    "a bearer token": (b"earer ", rb"earer (?<=[Aa]uthorization: [Bb]earer )[A-Za-z0-9._~+/-]{20,}"),
}
_SEARCHED = {what: (hint, re.compile(form)) for what, (hint, form) in _FORMS.items()}
_GIVEN = re.compile(r"\b([A-Z][A-Z0-9_]*)=(?!\$)[^\s\"']{4,}")
PLACES = re.compile(
    r"(.*/)?(\.netrc|_netrc|\.git-credentials|\.pypirc|\.docker/config\.json|\.aws/credentials|\.ssh/(?!known_hosts).+"
    r"|\.env|\.cache/huggingface/token|\.huggingface/token|id_(rsa|ed25519|ecdsa)|vast_api_key|\.vast_api_key)\Z"
)


def search(canaries: Mapping[str, str]) -> Callable[[bytes], Iterable[str]]:
    """Return the search for a snapshot: `canaries` are secrets of this machine, by the name of their variable."""
    known = {name: value.encode() for name, value in canaries.items()}

    def find(piece: bytes) -> Iterable[str]:
        for name, value in known.items():
            if value in piece:
                yield f"{_OURS}{name}"
        for what, (hint, form) in _SEARCHED.items():
            if hint in piece and form.search(piece):
                yield what

    return find


def canaries(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the secrets of this machine's environment, which must be in no image."""
    return {name: value for name, value in env.items() if len(value) >= _LONG and is_secret_variable(name)}


def problems(snapshot: ImageSnapshot, known: Mapping[str, str], public: Collection[str]) -> list[str]:
    """Name each place; the secret itself is never shown.

    `public` are the digests of files that anybody can download: an example of a token in one of them is no secret. A
    value of this machine's environment is one everywhere.
    """
    found = {
        f"layer {finding.layer}: {finding.path}: {finding.what}"
        for finding in snapshot.secrets
        if finding.what.startswith(_OURS) or not _is_public(snapshot, finding, public)
    }
    find = search(known)
    metadata = {"config": snapshot.config["config"], "history": snapshot.config["history"]}
    for where, part in metadata.items():
        found |= {f"{where}: {what}" for what in find(json.dumps(part).encode())}
    for at, layer in enumerate(snapshot.parts):
        files = (path for path, entry in layer.items() if entry.kind == "file" and entry.size)
        found |= {f"layer {at}: {path}: a file that holds secrets" for path in files if PLACES.match(path)}
    for row in snapshot.config["history"]:
        given = (match[1] for match in _GIVEN.finditer(row.get("created_by", "")))
        found |= {f"history: {name} is given a value" for name in given if is_secret_variable(name)}
    return sorted(found)


def _is_public(snapshot: ImageSnapshot, finding: Finding, public: Collection[str]) -> bool:
    """Return whether it is in a file as published, or in the bytecode of one."""
    entry = snapshot.parts[finding.layer].get(finding.path)
    if entry is None:
        return False
    if entry.sha256 in public:
        return True
    folder, cached, name = finding.path.rpartition("__pycache__/")
    source = snapshot.files.get(f"{folder}{name.partition('.')[0]}.py") if cached else None
    return source is not None and source.sha256 in public
