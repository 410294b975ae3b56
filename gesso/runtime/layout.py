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
            raw=raw,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckError(f"{path}: {type(error).__name__}: {error}", "run this inside a gesso image") from None
