"""`invoke build`, `invoke render`, `invoke clean`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import report
from gesso.builder.commands.project import PROJECT
from gesso.builder.image import build as image_build
from gesso.builder.image.bake import BAKES, LAYER_LIMIT, Baking
from gesso.builder.image.buildx import Caches
from gesso.builder.image.view import BuildView
from gesso.errors import ManifestError
from gesso.settings import cache_root, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gesso.builder.image.build import Built


def build(  # noqa: PLR0913 - one keyword for each flag of the task
    arch: str, overlays: Sequence[str], *, trial: bool, builder: str | None, tags: Sequence[str], push: bool,
    cache: bool, as_json: bool, bake: str = "none", licenses: Sequence[str] = (), layer_limit: str | None = None,
    cache_from: Sequence[str] = (), cache_to: str | None = None,
) -> None:  # fmt: skip
    """Build one image and print its digest, size and layers."""
    baking = _baking(bake, licenses, layer_limit)
    caches = Caches(cache, tuple(cache_from), cache_to)
    if push and not tags:
        raise ManifestError("--push needs a tag", "add --tag REGISTRY/NAME:TAG")
    if push and trial and not all(tag.startswith(("localhost:", "127.0.0.1:")) for tag in tags):
        raise ManifestError("a trial image is never published", "build without --trial, or push to localhost")
    selection = select(PROJECT, arch, overlays, trial=trial)
    with BuildView() as view:
        built = image_build.build(
            selection, os.environ, image_build.Callbacks(view.on_progress, view.on_event, view.on_model),
            builder=builder, names=tuple(tags), caches=caches, baking=baking,
        )  # fmt: skip
        for tag in tags if push else ():
            view.on_progress(f"pushing {tag}")
            image_build.push(tag, view.on_progress)
    if as_json:
        report.result_json(built.as_json())
    else:
        report.result(_describe(built))


def _baking(which: str, licenses: Sequence[str], layer_limit: str | None) -> Baking:
    if which not in BAKES:
        raise ManifestError(f"--bake {which}: not a choice", f"choose one of: {', '.join(BAKES)}")
    return Baking(which, tuple(licenses), bytes_of(layer_limit))


def bytes_of(layer_limit: str | None) -> int:
    """Read `--layer-limit`, in GB."""
    try:
        limit = LAYER_LIMIT if layer_limit is None else int(float(layer_limit) * 1e9)
        if limit <= 0:
            raise ValueError(limit)
    except (ValueError, OverflowError):
        raise ManifestError(f"--layer-limit {layer_limit}: not a size", "pass gigabytes, such as 10") from None
    return limit


def _describe(built: Built) -> str:
    image = built.image
    rows = [
        f"{'TRIAL ' * built.trial}image  {', '.join(built.tags)}",
        f"id      {image.image_id}",
        f"digest  {image.digest or 'none until it is pushed'}",
        f"size    {image.size / 1e9:.2f} GB in {len(image.layers)} layers",
        *(f"  {layer.size / 1e6:9,.1f} MB  {layer.made_by[:88]}" for layer in image.layers),
        f"time    {built.seconds:.1f} s",
        f"try it  docker run --rm -p 127.0.0.1:8188:8188 --name gesso {built.tags[0]}",
        "        docker exec gesso gesso url",
    ]
    return "\n".join(rows)


def render_context(arch: str, overlays: Sequence[str], out: str, *, trial: bool) -> None:
    """Write the exact build context to a folder."""
    selection = select(PROJECT, arch, overlays, trial=trial)
    plan = image_build.write_context(selection, Path(out), os.environ, report.progress)
    report.result(f"{out}: docker buildx build --tag {plan.tags[0]} {out}")


def clean(*, models: bool) -> None:
    """Remove the caches of sources and build contexts (not the engine's images), with `models` also of models."""
    root = cache_root(os.environ)
    for name in ("contexts", "git", "real", "sources", *["models"] * models):
        shutil.rmtree(root / name, ignore_errors=True)
    report.result(f"removed the caches in {root}")
