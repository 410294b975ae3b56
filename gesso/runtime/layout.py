"""Where things are inside an instance, and what the image says of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gesso.errors import CheckError

PUBLIC_PORT = 8188
COMFY_PORT = 18188
AGENT_PORT = 18189


@dataclass(frozen=True)
class Layout:
    """The folders of an instance; tests give other roots."""

    gesso: Path = Path("/opt/gesso")
    comfyui: Path = Path("/opt/ComfyUI")
    venv: Path = Path("/opt/venv")
    workspace: Path = Path("/workspace")
    run: Path = Path("/run/gesso")
    logs: Path = Path("/var/log/gesso")
    root: Path = Path("/")  # of everything that has no folder above

    @property
    def site_packages(self) -> Path:
        """ComfyUI's Python packages.

        Raises CheckError where there is not exactly one Python in its venv.
        """
        found = sorted(self.venv.glob("lib/python3.*/site-packages"))
        if len(found) != 1:
            raise CheckError(f"{self.venv}: holds {len(found)} Pythons, there must be one", "start a fresh instance")
        return found[0]

    @property
    def state(self) -> Path:
        """What gesso keeps for an instance: the token, what it replaced."""
        return self.workspace / "gesso"

    @property
    def reports(self) -> Path:
        """The journals and reports of heals."""
        return self.state / "reports"

    @property
    def heal_lock(self) -> Path:
        """Who holds it heals."""
        return self.state / "heal.lock"

    @property
    def models_lock(self) -> Path:
        """Who holds it puts the models right: the agent leaves them to it."""
        return self.run / "models.lock"

    @property
    def owed(self) -> Path:
        """What says that a repair waits for a restart of ComfyUI: a heal may be killed in between."""
        return self.run / "comfyui.owed"

    @property
    def spare(self) -> Path:
        """What heal restores from: an archive for each thing that was built in."""
        return self.gesso / "spare"

    def inside(self, path: str) -> tuple[Path, str]:
        """Give where a path of the image is: a folder that is taken as it stands, and the rest below it."""
        for place, folder in (("/opt/ComfyUI", self.comfyui), ("/opt/gesso", self.gesso)):
            if path == place or path.startswith(f"{place}/"):
                return folder, path.removeprefix(place).strip("/")
        parent, _, name = path.rpartition("/")
        return self.root / parent.strip("/"), name

    @property
    def models(self) -> Path:
        """The model files, by ComfyUI's folder names."""
        return self.workspace / "models"

    @property
    def baked(self) -> Path:
        """The model files that came with the image."""
        return self.gesso / "models"

    @property
    def user(self) -> Path:
        """ComfyUI's user directory."""
        return self.workspace / "user"


@dataclass(frozen=True)
class Spare:
    """An archive of what was built in, as `Layout.spare`/NAME.tar.xz; `target` is the folder that it was made of.

    `loose`: something else put files there too when the image was built, so that one more says nothing.
    """

    name: str
    sha256: str
    target: str
    loose: bool = False


@dataclass(frozen=True)
class Record:
    """/opt/gesso/build.json: what everything in the image is."""

    arch: str
    title: str
    trial: bool
    classes: tuple[str, ...]
    pins: dict[str, str]
    workflows: dict[str, str]
    raw: dict[str, Any] = field(repr=False)
    baked: tuple[str, ...] = ()  # models in layers of the image, below Layout.baked
    spares: tuple[Spare, ...] = ()  # none in images that were made before there were any


def read_record(layout: Layout) -> Record:
    """Read the image's record.

    Raises CheckError where this is no gesso image.
    """
    path = layout.gesso / "build.json"
    try:
        raw: dict[str, Any] = json.loads(path.read_bytes())
        return Record(
            arch=raw["arch"],
            title=raw["title"],
            trial=raw["trial"],
            classes=tuple(raw["classes"]),
            pins=raw["python"]["pins"],
            workflows=raw["workflows"],
            baked=tuple(raw.get("baked", ())),
            spares=tuple(Spare(name, **spare) for name, spare in raw.get("spares", {}).items()),
            raw=raw,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckError(f"{path}: {type(error).__name__}: {error}", "run this inside a gesso image") from None
