"""Behaviour of the core node classes that write files: they save a placeholder image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths

from .png import placeholder
from .recorded import Behaviour


def _save(directory: str, kind: str, prefix: str) -> dict[str, Any]:
    folder = Path(directory)
    target = (folder / prefix).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise ValueError("Saving image outside the output folder is not allowed.")
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while (file := target.with_name(f"{target.name}_{number:05}_.png")).exists():
        number += 1
    file.write_bytes(placeholder())
    below = target.parent.relative_to(folder.resolve())
    return {"images": [{"filename": file.name, "subfolder": "" if below == Path() else str(below), "type": kind}]}


def save_image(inputs: dict[str, Any]) -> dict[str, Any]:
    return _save(folder_paths.output_directory, "output", str(inputs.get("filename_prefix", "ComfyUI")))


def preview_image(_: dict[str, Any]) -> dict[str, Any]:
    return _save(folder_paths.temp_directory, "temp", "ComfyUI_temp")


BEHAVIOURS: dict[str, Behaviour] = {"SaveImage": save_image, "PreviewImage": preview_image}
