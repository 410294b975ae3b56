"""A manifest's models without weights, on disk, and an image of the real sources that fetches them from a mirror.

    GESSO_HEADERS=… python -m tests.real.overlay ARCH     builds that image, and prints the files' folder

Models with a real header have it here; the others are the trial's small stand-ins. The bytes are the same in each run:
an image that was built with this overlay matches files that are created later.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import report
from gesso.builder.commands import lock
from gesso.builder.image import build as image_build
from gesso.builder.image.trial import MIRROR, content
from gesso.errors import LockError
from gesso.manifest.load import load
from gesso.settings import Project, Selection, cache_root, select

from . import weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gesso.manifest.schema import Model

PROJECT = Project(Path(__file__).resolve().parents[2])
NAME = "real-models.yaml"
# An optional checkpoint as large as the required one: so that more than 10 GB are fetched.
LARGE = {**weights.FILES, "checkpoints/RealVisXL_V5.0_fp16.safetensors": "sdxl-checkpoint"}


def place(arch: str) -> Path:
    """Return the folder of an architecture's files, overlay and lock."""
    return cache_root(os.environ) / "real" / arch


def beneath(env: Mapping[str, str]) -> list[Path]:
    """Return the overlays with the real sources, if they are not at the manifest's own (GESSO_REAL_OVERLAYS)."""
    return [Path(name) for name in env.get("GESSO_REAL_OVERLAYS", "").split(os.pathsep) if name]


def build(arch: str, overlays: Sequence[Path], headers: Path) -> str:
    """Build the image from `overlays` and the models' overlay, with its own lock; return its id.

    Raises the errors of locking and building.
    """
    layers = [*overlays, make(arch, headers)]
    selection = select(PROJECT, arch, layers)
    try:
        image_build.prepare(selection)
    except LockError:
        lock.lock(arch, list(map(str, layers)), trial=False, upgrade=False, check_only=False)
    callbacks = image_build.Callbacks(report.progress, lambda _: None)
    return image_build.build(selection, os.environ, callbacks).image.image_id


def make(arch: str, headers: Path) -> Path:
    """Write the files and the overlay; return the overlay. Raises ManifestError."""
    folder = place(arch)
    models = load(Selection(PROJECT, arch).manifest, root=PROJECT.root).manifest.models
    lines = ["models:"]
    for model in models:
        path = folder / "files" / model.name
        _write(path, model, headers)
        digest, size = digest_of(path), path.stat().st_size
        lines.append(f"  - {{name: {model.name}, sources: ['{MIRROR}/{model.name}'], sha256: {digest}, size: {size}}}")
    overlay = folder / NAME
    overlay.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return overlay


def _write(path: Path, model: Model, headers: Path) -> None:
    header = LARGE.get(model.name)
    if header is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(model))
        return
    tensors = json.loads(gzip.decompress((headers / f"{header}.json.gz").read_bytes()))
    weights.write(path, tensors, nudged=weights.NUDGED if model.kind == "vae" else ())


def digest_of(path: Path) -> str:
    """Return the sha256. A sparse file's holes are not read: gigabytes of zeros would fill the page cache."""
    digest, zeros, size = hashlib.sha256(), memoryview(bytes(1 << 20)), path.stat().st_size
    handle = os.open(path, os.O_RDONLY)
    try:
        at = 0
        while at < size:
            try:
                data = os.lseek(handle, at, os.SEEK_DATA)
            except OSError:  # only a hole from here on
                data = size
            for start in range(at, data, len(zeros)):
                digest.update(zeros[: data - start])
            at = os.lseek(handle, data, os.SEEK_HOLE) if data < size else size
            for start in range(data, at, len(zeros)):
                digest.update(os.pread(handle, min(len(zeros), at - start), start))
    finally:
        os.close(handle)
    return digest.hexdigest()


if __name__ == "__main__":
    made = build(sys.argv[1], beneath(os.environ), Path(os.environ["GESSO_HEADERS"]))
    report.result(f"{made}\nits models: {place(sys.argv[1]) / 'files'}")
