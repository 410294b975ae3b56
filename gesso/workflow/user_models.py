"""Model files that users added to those of the manifest, identified by their headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.models.identify.family import identify
from gesso.models.identify.header import HeaderError, read_header
from gesso.workflow.dataflow import ModelInfo

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER_ALIASES = {"diffusion_models": "unet", "text_encoders": "clip"}  # ComfyUI lists both folders as one


@dataclass(frozen=True)
class UserModels:
    """The files under ComfyUI's models folder; none without a folder."""

    models: Path | None = None

    def has(self, folder: str, name: str) -> bool:
        """Check whether the file exists."""
        return self._path(folder, name) is not None

    def resolve(self, folder: str, name: str) -> ModelInfo | None:
        """Identify a file by its header; None if it does not exist, no family if it is no model."""
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
            return ModelInfo("")
        return ModelInfo(found.family, found.latent_channels)

    def _path(self, folder: str, name: str) -> Path | None:
        if self.models is None or not name or "\0" in name:
            return None
        for candidate in (folder, _FOLDER_ALIASES.get(folder, folder)):
            path = self.models / candidate / name
            if ".." not in path.parts and path.is_relative_to(self.models / candidate) and path.is_file():
                return path
        return None
