"""Paths of the project, the selected image and the cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gesso.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COMMON = "common"
TRIAL = "trial"


@dataclass(frozen=True)
class Project:
    """A checkout of gesso (or of a fork with its own manifests) and its folders."""

    root: Path

    @property
    def manifests(self) -> Path:
        """The manifests of the images."""
        return self.root / "manifests"

    @property
    def locks(self) -> Path:
        """The locks that `invoke lock` writes."""
        return self.manifests / "locks"

    @property
    def images(self) -> Path:
        """The sources of the image: Dockerfile template, rootfs, stand-in."""
        return self.root / "images"

    @property
    def workflows(self) -> Path:
        """The gold-standard graphs."""
        return self.root / "workflows"

    def archs(self) -> list[str]:
        """Return the architectures that have a manifest."""
        return sorted(p.stem for p in self.manifests.glob("*.yaml") if p.stem not in {COMMON, TRIAL})


@dataclass(frozen=True)
class Selection:
    """The selected image: an architecture and the overlays of its manifest. Determines its lock."""

    project: Project
    arch: str
    overlays: tuple[Path, ...] = ()
    trial: bool = False

    @property
    def manifest(self) -> Path:
        """The architecture's manifest file."""
        return self.project.manifests / f"{self.arch}.yaml"

    @property
    def layers(self) -> tuple[Path, ...]:
        """The overlays in the order in which they are merged; those of a trial come first."""
        trial = (self.project.manifests / f"{TRIAL}.yaml", self.trial_models) if self.trial else ()
        return (*trial, *self.overlays)

    @property
    def trial_models(self) -> Path:
        """The generated overlay that replaces this architecture's models with small ones."""
        return self.project.manifests / TRIAL / f"{self.arch}.yaml"

    @property
    def lock(self) -> Path:
        """The lock: in the project's locks, or beside the last overlay and named after all of them."""
        return self._locks / f"{self._prefix}{self.arch}{'.trial' if self.trial else ''}.lock.json"

    @property
    def python_lock(self) -> Path:
        """The Python lock, which all architectures share."""
        return self._locks / f"{self._prefix}python{'.trial' if self.trial else ''}.lock.txt"

    @property
    def without_overlays(self) -> Selection:
        """The same architecture without overlays."""
        return Selection(self.project, self.arch, (), self.trial)

    @property
    def without_trial(self) -> Selection:
        """The real image of the same architecture."""
        return Selection(self.project, self.arch)

    @property
    def flags(self) -> str:
        """The flags that select it on the command line, for messages."""
        overlays = "".join(f" --overlay {path}" for path in self.overlays)
        return f"--arch {self.arch}{' --trial' if self.trial else ''}{overlays}"

    @property
    def _locks(self) -> Path:
        return self.overlays[-1].resolve().parent if self.overlays else self.project.locks

    @property
    def _prefix(self) -> str:
        return "".join(f"{path.stem}." for path in self.overlays)


def select(project: Project, arch: str, overlays: Sequence[str | Path] = (), *, trial: bool = False) -> Selection:
    """Return the selection for command-line options.

    Raises ManifestError for an unknown architecture or a missing overlay.
    """
    archs = project.archs()
    if arch not in archs:
        shown = arch if re.fullmatch(r"[\w.-]{1,60}", arch) else repr(arch[:60])
        raise ManifestError(f"--arch {shown}: no such architecture", f"choose one of: {', '.join(archs)}")
    paths = tuple(Path(overlay) for overlay in overlays)
    for path in paths:
        if not path.is_file():
            raise ManifestError(f"--overlay {path}: no such file", "give the path of a YAML file")
    return Selection(project, arch, paths, trial)


def cache_root(env: Mapping[str, str]) -> Path:
    """Return the cache folder: GESSO_CACHE, else gesso/ in XDG_CACHE_HOME or ~/.cache."""
    if configured := env.get("GESSO_CACHE"):
        return Path(configured).expanduser().resolve()
    return Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gesso"
