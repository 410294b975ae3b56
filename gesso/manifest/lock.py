"""The lock: what a build is made of, to the byte, and the checksum of the intent that it was made from."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from gesso.errors import LockError

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.manifest.schema import Manifest, Model, Source

FORMAT = 1
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LockedBase(_Frozen):
    """The base image by digest, or the suite that one is bootstrapped from."""

    image: str | None = None
    digest: str | None = None
    bootstrap: str | None = None


class LockedSource(_Frozen):
    """Source code at a commit; `tree` is git's id of the commit's whole content. Paths inside the project have none."""

    git: str | None = None
    ref: str | None = None
    path: str | None = None
    commit: str | None = None
    tree: str | None = None


class LockedPython(_Frozen):
    """The Python lock file beside this lock, and the digest of what it says."""

    file: str
    sha256: str
    sqlalchemy: str
    resolved_from: str


class LockedModel(_Frozen):
    """A model file; `sources` are pinned to a revision where the host gave one.

    `size_confirmed`: a host said this size beside this sha256. Any other size is a hint: for progress and disk space.
    """

    name: str
    sources: tuple[str, ...]
    sha256: str
    size: int | None = None
    size_confirmed: bool = False


class Lock(_Frozen):
    """One architecture's lock."""

    format: Literal[1] = 1
    arch: str
    inputs: dict[str, str]
    base: LockedBase
    comfyui: LockedSource
    nodes: dict[str, LockedSource]
    python: LockedPython
    models: tuple[LockedModel, ...]
    unconfirmed: tuple[str, ...] = ()

    def dumps(self) -> str:
        """Return the lock as it is written: stable, so that differences read well."""
        return json.dumps(self.model_dump(exclude_none=True), indent=2, sort_keys=True) + "\n"

    @property
    def sha256(self) -> str:
        """The digest of the written lock."""
        return hashlib.sha256(self.dumps().encode()).hexdigest()


def inputs_of(manifest: Manifest) -> dict[str, str]:
    """Return the checksum of each part of the intent that a lock depends on, by a readable name.

    Comments, titles, workflows and hardware do not count: they need no new lock.
    """
    parts: dict[str, Any] = {
        "base": manifest.base.model_dump(),
        "comfyui": manifest.comfyui.model_dump(),
        "python": manifest.python.model_dump(exclude={"layers"}),
    }
    parts |= {f"nodes {node.name}": node.model_dump(exclude={"install"}) for node in manifest.nodes}
    parts |= {f"models {m.name}": m.model_dump(include={"name", "sources", "sha256", "size"}) for m in manifest.models}
    return {name: checksum(part) for name, part in sorted(parts.items())}


def checksum(data: Any) -> str:
    """Return the sha256 of plain data in its canonical JSON form, shortened to 16 hex digits."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stale_inputs(lock: Lock, manifest: Manifest) -> list[str]:
    """Return the inputs that changed, were added or removed since the lock was made; empty if it is fresh."""
    now = inputs_of(manifest)
    return sorted(name for name in now.keys() | lock.inputs.keys() if now.get(name) != lock.inputs.get(name))


def contradictions(lock: Lock, manifest: Manifest) -> list[str]:
    """Return everything in which a lock contradicts its manifest. Pure.

    A lock adds what people do not write: commits, digests, sizes. What they did write it can only repeat. Else whoever
    changes a lock alone, where few people look, would change what is built.
    """
    found = [] if lock.arch == manifest.arch else ["arch"]
    base = lock.base
    if (base.image, base.bootstrap) != (manifest.base.image, manifest.base.bootstrap) or (
        base.image is not None and not _DIGEST.fullmatch(base.digest or "")
    ):
        found.append("base")
    wanted = {"comfyui": manifest.comfyui, **{f"nodes {node.name}": node for node in manifest.nodes}}
    locked = {"comfyui": lock.comfyui, **{f"nodes {name}": source for name, source in lock.nodes.items()}}
    found += wanted.keys() ^ locked.keys()
    found += [name for name in wanted.keys() & locked.keys() if not _repeats(locked[name], wanted[name])]
    models = {model.name: model for model in manifest.models}
    if sorted(models) != sorted(model.name for model in lock.models):
        found.append("models")
    found += [
        f"models {m.name}"
        for m in lock.models
        if (m.name in models and not _same_file(m, models[m.name])) or (m.size_confirmed and not _confirmed(m, lock))
    ]
    return sorted(found)


def _repeats(locked: LockedSource, source: Source) -> bool:
    if (locked.git, locked.ref, locked.path) != (source.git, source.ref, source.path):
        return False
    if source.git is None:
        return True
    is_commit = _COMMIT.fullmatch(source.ref or "") is not None
    whole = all(_COMMIT.fullmatch(identity or "") for identity in (locked.commit, locked.tree))
    return whole and (not is_commit or locked.commit == source.ref)


def _same_file(locked: LockedModel, model: Model) -> bool:
    """Return whether a locked model is the manifest's: its sources may be pinned to a revision, on the same hosts."""
    hosts = [[tuple(urlsplit(url)[:2]) for url in urls] for urls in (locked.sources, model.sources)]
    size = locked.size is None or (locked.size > 0 and model.size in (None, locked.size))
    return locked.sha256 == model.sha256 and hosts[0] == hosts[1] and size


def _confirmed(locked: LockedModel, lock: Lock) -> bool:
    """Return whether a host can have confirmed this size: not where the lock says that no host confirmed the file."""
    return locked.size is not None and f"models {locked.name}" not in lock.unconfirmed


def read_lock(path: Path) -> Lock:
    """Read one lock file.

    Raises LockError where it is missing or not a lock of this format.
    """
    try:
        return Lock.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise LockError(f"{path.name}: there is no such lock", "make it with `invoke lock`") from None
    except OSError as error:
        raise LockError(f"{path.name}: {error.strerror}", "make it readable, then run this again") from None
    except (ValidationError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise LockError(
            f"{path.name}: not a lock of format {FORMAT} ({first})", "make it anew with `invoke lock`"
        ) from None


def usable_lock(path: Path) -> Lock | None:
    """Read the previous lock; None if there is none, or if it cannot be read.

    A merge that left its marks in a lock is no reason not to make it anew.
    """
    try:
        return read_lock(path)
    except LockError:
        return None


def source_of(source: Source) -> LockedSource:
    """Return the part of a locked source that is intent."""
    return LockedSource(git=source.git, ref=source.ref, path=source.path)
