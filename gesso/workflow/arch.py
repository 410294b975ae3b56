"""What an image holds for graphs: its models by folder and name, its one family, the VAE that it locks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso.errors import ManifestError
from gesso.workflow.dataflow import Known
from gesso.workflow.families import UNDECIDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gesso.manifest.schema import Manifest

_SAME_FOLDER = {"unet": "diffusion_models", "clip": "text_encoders"}  # ComfyUI lists both under the one name
_SUFFIXES = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Arch:
    """One architecture; `vae` is the locked file's name as a loader says it."""

    name: str
    family: str
    vae: str
    models: Mapping[tuple[str, str], str]
    elsewhere: Mapping[tuple[str, str], str]

    def resolve(self, folder: str, name: str) -> Known | None:
        """Say what a file is, by this manifest or another of the project; None for a name that none has."""
        family = self.models.get((folder, name), self.elsewhere.get((folder, name)))
        return None if family is None else Known("" if family in UNDECIDED else family)

    def names(self, folder: str) -> list[str]:
        """Give the files of a folder, as a loader lists them."""
        return sorted(name for where, name in self.models if where == folder)


def of_manifest(manifest: Manifest, others: Iterable[Manifest] = ()) -> Arch:
    """Read the manifest; `others` tell what a file is that does not belong here."""
    elsewhere = [(model.name, model.family) for other in others for model in other.models]
    models = [(model.name, model.family) for model in manifest.models]
    return _arch(manifest.arch, manifest.family, manifest.vae, models, elsewhere)


def of_record(record: Mapping[str, Any]) -> Arch:
    """Read what an image says of itself: /opt/gesso/build.json.

    Raises ManifestError where it is none.
    """
    try:
        models = [(str(model["name"]), str(model["family"])) for model in record["models"]]
        return _arch(str(record["arch"]), str(record["family"]), str(record["vae"]), models)
    except (KeyError, TypeError) as error:
        raise ManifestError(f"the image's record lacks {error}", "start a fresh instance") from None


def _arch(
    name: str, family: str, vae: str, models: Iterable[tuple[str, str]], elsewhere: Iterable[tuple[str, str]] = ()
) -> Arch:
    own, others = ({_split(path): kind for path, kind in listed} for listed in (models, elsewhere))
    return Arch(name, family, vae.partition("/")[2], own, others)


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.partition("/")
    return _SAME_FOLDER.get(folder, folder), name


def is_model_file(value: object) -> bool:
    """Tell a file's name from other texts."""
    return isinstance(value, str) and value.lower().endswith(_SUFFIXES)
