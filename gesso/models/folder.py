"""The paths of a model: final path, partial file, journal, receipt, lock, quarantine.

`root/.gesso` holds what gesso keeps about the models: it travels with the volume, and ComfyUI lists none of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STATE = ".gesso"
PARTIAL = ".part"  # a suffix that ComfyUI lists in no folder


@dataclass(frozen=True)
class Folder:
    """A models folder; `state` is elsewhere where `root` cannot be written.

    `places`: where models lie whose path is not their name, relative to `root` (the builder's store).
    """

    root: Path
    state: Path
    places: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def at(root: Path, state: Path | None = None) -> Folder:
        """Return the folder at `root`, with its state inside it by default."""
        return Folder(root, state or root / STATE)

    def path(self, name: str) -> Path:
        """The final path of a model."""
        return self.root / self.places.get(name, name)

    def partial(self, name: str, sha256: str) -> Path:
        """The file that a download is written to, beside the final path so that the rename is atomic.

        Named after the wanted bytes: what another lock wanted under the same name is never resumed.
        """
        path = self.path(name)
        return path.with_name(f".{_short(path.name)}.{sha256[:16]}{PARTIAL}")

    def journal(self, name: str, sha256: str) -> Path:
        """The journal: which blocks of the partial file are complete."""
        partial = self.partial(name, sha256)
        return partial.with_name(f"{partial.name}.journal")

    def strangers(self, name: str, sha256: str) -> list[Path]:
        """Partial files and journals of another version of this model."""
        path, own = self.path(name), self.partial(name, sha256).name
        pattern = re.compile(rf"(\.{re.escape(_short(path.name))}\.[0-9a-f]{{16}}{re.escape(PARTIAL)})(\.journal)?")
        with contextlib.suppress(OSError):
            return [p for p in path.parent.iterdir() if (m := pattern.fullmatch(p.name)) and m[1] != own]
        return []

    def lock(self, name: str) -> Path:
        """The lock of the process that works on this model."""
        return self.state / "locks" / f"{flat(self.places.get(name, name))}.lock"

    def receipt(self, name: str) -> Path:
        """The receipt: the hash of the file at the final path, and its stat when it was hashed."""
        return self.state / "receipts" / f"{flat(self.places.get(name, name))}.json"

    @property
    def quarantine(self) -> Path:
        """Where bad files are moved to."""
        return self.state / "quarantine"


def flat(name: str) -> str:
    """Return a readable, unique file name for a model's name."""
    return f"{name.replace('/', '--')[:150]}.{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _short(name: str) -> str:
    """Return a unique name that leaves room for suffixes (the limit is 255 bytes)."""
    return name if len(name) <= 160 else f"{name[:140]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
