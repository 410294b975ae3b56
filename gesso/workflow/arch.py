"""What an image offers to graphs: its models by folder and name, its model family, its locked VAE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso.errors import ManifestError
from gesso.workflow.dataflow import ModelInfo
from gesso.workflow.families import UNDECIDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gesso.manifest.schema import Manifest

_FOLDER_ALIASES = {
    "unet": "diffusion_models",
    "clip": "text_encoders",
}  # ComfyUI lists both folders under the second name
_SUFFIXES = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Arch:
    """One architecture; `vae` is the locked file's name as loaders list it."""

    name: str
    family: str
    vae: str
    models: Mapping[tuple[str, str], str]
    other_models: Mapping[tuple[str, str], str]

    def resolve(self, folder: str, name: str) -> ModelInfo | None:
        """Look up a file in this manifest, then in the project's others; None if no manifest has it."""
        family = self.models.get((folder, name), self.other_models.get((folder, name)))
        return None if family is None else ModelInfo("" if family in UNDECIDED else family)

    def names(self, folder: str) -> list[str]:
        """Return the files of a folder, as loaders list them."""
        return sorted(name for parent, name in self.models if parent == folder)


def from_manifest(manifest: Manifest, others: Iterable[Manifest] = ()) -> Arch:
    """Read a manifest; `others` identify files that belong to other architectures."""
    other_models = [(model.name, model.family) for other in others for model in other.models]
    models = [(model.name, model.family) for model in manifest.models]
    return _arch(manifest.arch, manifest.family, manifest.vae, models, other_models)


def from_record(record: Mapping[str, Any]) -> Arch:
    """Read an image's build record, /opt/gesso/build.json.

    Raises ManifestError where a key is missing.
    """
    try:
        models = [(str(model["name"]), str(model["family"])) for model in record["models"]]
        return _arch(str(record["arch"]), str(record["family"]), str(record["vae"]), models)
    except (KeyError, TypeError) as error:
        raise ManifestError(f"the image's record lacks {error}", "start a fresh instance") from None


def _arch(
    name: str, family: str, vae: str, models: Iterable[tuple[str, str]], others: Iterable[tuple[str, str]] = ()
) -> Arch:
    own, other = ({_split(path): family for path, family in pairs} for pairs in (models, others))
    return Arch(name, family, vae.partition("/")[2], own, other)


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.partition("/")
    return _FOLDER_ALIASES.get(folder, folder), name


def is_model_file(value: object) -> bool:
    """Check whether a value is the name of a model file."""
    return isinstance(value, str) and value.lower().endswith(_SUFFIXES)
