"""Records of published templates, beside the locks: manifests/locks/ARCH.vast.json (docs/adr/0041)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from gesso.builder.lock.lock_files import replace
from gesso.errors import LockError

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.settings import Selection


class Record(BaseModel):
    """One architecture's template at Vast.ai: `content` is the digest of the request body."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    arch: str
    name: str
    hash_id: str
    id: int
    content: str
    image: str
    compressed: int  # bytes to pull, and on disk: input of `invoke vast offers`
    unpacked: int
    kept: tuple[int, ...] = ()  # older ones that Vast.ai does not remove: others use them

    def dumps(self) -> str:
        """Return the record as JSON text."""
        return json.dumps(self.model_dump(), indent=2, sort_keys=True) + "\n"


def path_of(selection: Selection) -> Path:
    """Return the path of a selection's record: beside its lock."""
    return selection.lock.with_name(f"{selection.lock.name.removesuffix('.lock.json')}.vast.json")


def read(path: Path) -> Record | None:
    """Read a record; None where nothing was published yet.

    Raises LockError where it is unreadable or invalid.
    """
    try:
        return Record.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LockError(f"{path.name}: {error.strerror}", "make it readable, then run this again") from None
    except (ValidationError, ValueError) as error:
        first = str(error).splitlines()[0]
        step = "remove it: the next publish writes a new one"
        raise LockError(f"{path.name}: not a template record ({first})", step) from None


def write(path: Path, record: Record) -> bool:
    """Write a record by rename; return whether it changed."""
    text = record.dumps()
    try:
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, text)
    except OSError as error:
        raise LockError(f"{path.name}: {error.strerror}", "free disk space or correct its folder, then run this again; "
                        "the template itself is published, and will be found") from None  # fmt: skip
    return True
