"""Model files that a person put beside the manifest's: there is such a file, and its header says what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.models.identify.family import identify
from gesso.models.identify.header import HeaderError, read_header
from gesso.workflow.dataflow import Known

if TYPE_CHECKING:
    from pathlib import Path

_ALSO = {"diffusion_models": "unet", "text_encoders": "clip"}  # ComfyUI lists these folders together


@dataclass(frozen=True)
class OwnFiles:
    """The files under ComfyUI's models folder; with no folder there are none."""

    models: Path | None = None

    def has(self, folder: str, name: str) -> bool:
        """Tell whether there is such a file."""
        return self._path(folder, name) is not None

    def resolve(self, folder: str, name: str) -> Known | None:
        """Say what a file is by its header; None where there is none. A file that is no model is not known."""
        path = self._path(folder, name)
        if path is None:
            return None
        try:
            with path.open("rb") as file:

                def read(offset: int, length: int) -> bytes:
                    file.seek(offset)
                    return file.read(length)

                found = identify(read_header(read, path.stat().st_size))
        except (OSError, HeaderError):
            return Known("")
        return Known(found.family, found.latent_channels)

    def _path(self, folder: str, name: str) -> Path | None:
        if self.models is None or not name or "\0" in name:
            return None
        for place in (folder, _ALSO.get(folder, folder)):
            path = self.models / place / name
            if ".." not in path.parts and path.is_relative_to(self.models / place) and path.is_file():
                return path
        return None
