"""Map each model folder to its directories, under the names that node packs import and extend."""

from __future__ import annotations

import os
from collections.abc import Collection

supported_pt_extensions: set[str] = {".bin", ".ckpt", ".pkl", ".pt", ".pt2", ".pth", ".safetensors", ".sft"}

models_dir = ""
user_directory = ""
input_directory = ""
output_directory = ""
temp_directory = ""
folder_names_and_paths: dict[str, tuple[list[str], Collection[str]]] = {}

# In ComfyUI's own order, because GET /models shows it. A value names the directories where the key does not.
_FOLDERS: dict[str, tuple[str, ...]] = {
    "checkpoints": (),
    "configs": (),
    "loras": (),
    "vae": (),
    "text_encoders": ("text_encoders", "clip"),
    "diffusion_models": ("unet", "diffusion_models"),
    "clip_vision": (),
    "style_models": (),
    "embeddings": (),
    "diffusers": (),
    "vae_approx": (),
    "controlnet": ("controlnet", "t2i_adapter"),
    "gligen": (),
    "upscale_models": (),
    "latent_upscale_models": (),
    "hypernetworks": (),
    "photomaker": (),
    "classifiers": (),
    "model_patches": (),
    "audio_encoders": (),
    "background_removal": (),
    "frame_interpolation": (),
    "geometry_estimation": (),
    "optical_flow": (),
    "detection": (),
}
_EXTENSIONS: dict[str, Collection[str]] = {"configs": {".yaml"}, "diffusers": {"folder"}, "classifiers": {""}}
_OLD_NAMES = {"unet": "diffusion_models", "clip": "text_encoders"}


def configure(*, models: str, user: str, inputs: str, outputs: str, temp: str) -> None:
    """Set all paths from the command line and create the directories that ComfyUI creates."""
    global models_dir, user_directory, input_directory, output_directory, temp_directory
    models_dir, user_directory, input_directory = models, user, inputs
    output_directory, temp_directory = outputs, temp
    folder_names_and_paths.clear()
    for name, directories in _FOLDERS.items():
        paths = [os.path.join(models, d) for d in directories or (name,)]
        folder_names_and_paths[name] = (paths, _EXTENSIONS.get(name, supported_pt_extensions))
    for path in (user, inputs, outputs, temp):
        os.makedirs(path, exist_ok=True)


def map_legacy(folder_name: str) -> str:
    return _OLD_NAMES.get(folder_name, folder_name)


def get_folder_paths(folder_name: str) -> list[str]:
    return list(folder_names_and_paths[map_legacy(folder_name)][0])


def get_filename_list(folder_name: str) -> list[str]:
    """Return file names relative to the folder's directories, sorted. Raises KeyError for an unknown folder."""
    paths, extensions = folder_names_and_paths[map_legacy(folder_name)]
    found: set[str] = set()
    for root in paths:
        for directory, below, files in os.walk(root, followlinks=True):
            below[:] = [d for d in below if d != ".git"]
            for file in files:
                if not extensions or os.path.splitext(file)[1].lower() in extensions:
                    found.add(os.path.relpath(os.path.join(directory, file), root))
    return sorted(found)


def get_full_path(folder_name: str, filename: str) -> str | None:
    """Return the file's path, or None. `..` in the name can't lead out of the folder."""
    inside = os.path.relpath(os.path.join("/", filename), "/")
    for root in folder_names_and_paths.get(map_legacy(folder_name), ([], ()))[0]:
        path = os.path.join(root, inside)
        if os.path.isfile(path):
            return path
    return None


def get_user_directory() -> str:
    return user_directory


def get_input_directory() -> str:
    return input_directory


def get_output_directory() -> str:
    return output_directory


def get_temp_directory() -> str:
    return temp_directory


def get_directory_by_type(type_name: str) -> str | None:
    return {"input": input_directory, "output": output_directory, "temp": temp_directory}.get(type_name)
