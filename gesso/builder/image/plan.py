"""Plan an image from manifest and lock alone: the template's variables and every generated file. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso import __version__
from gesso.builder.lock.python_pins import GUARDED, Pin, grouped, pin_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gesso.builder.lock.lock_files import Locked
    from gesso.manifest.schema import Manifest

REPOSITORY = "gesso"
EPOCH = 1_767_225_600  # 2026-01-01 UTC: the time of every file in the final layer


@dataclass(frozen=True)
class Plan:
    """One image: variables for images/Dockerfile.j2, and generated files by their path in the build context."""

    tags: tuple[str, ...]
    variables: Mapping[str, Any]
    files: Mapping[str, str]
    trial: bool


def tags_of(arch: str, *, trial: bool) -> tuple[str, ...]:
    """Return the local tags of an image."""
    return (f"{REPOSITORY}:{arch}{'-trial' if trial else ''}",)


def plan(  # noqa: PLR0913 - one keyword for each thing that an image is made of
    manifest: Manifest,
    locked: Locked,
    *,
    base: str,
    wheel: str,
    own_pins: Mapping[str, str],
    workflows: Mapping[str, str],
    revision: str | None,
    baked: Sequence[str] = (),
    spares: Mapping[str, Mapping[str, Any]] | None = None,
    trees: Mapping[str, str] | None = None,
) -> Plan:
    """Plan one image.

    `base` is the reference for FROM; `wheel` gesso's own wheel by file name; `own_pins` the texts of gesso's own
    Python locks (`gesso`, `tools`); `workflows` the graphs by file name; `revision` the project's commit, if any;
    `baked` the models, by name, that become layers; `spares` the record's entries of the archives that heal restores
    from; `trees` the tree IDs of node packs that the lock has none of.
    """
    groups = grouped(locked.pins, manifest.python.layers)
    guarded = pin_of(locked.pins, GUARDED)
    record = build_record(manifest, locked, workflows, baked, spares, trees)
    files = {
        **{f"python/{name}.txt": _lines(pins) for name, pins in groups.items()},
        "python/constraints.txt": _constraints(locked),
        "python/requirements.txt": _lines(locked.pins),
        "python/sqlalchemy.txt": _lines((guarded,)),
        "python/tools.txt": own_pins["tools"],
        "gesso/requirements.txt": own_pins["gesso"],
        "arch/build.json": json.dumps(record, indent=1, sort_keys=True) + "\n",
        **{f"arch/workflows/{name}": text for name, text in workflows.items()},
    }
    variables = {
        "arch": manifest.arch,
        "base": base,
        "apt": manifest.apt,
        "apt_without": manifest.apt_without,
        "python_version": manifest.python.version,
        "groups": list(groups),
        "nodes": manifest.nodes,
        "gesso_wheel": wheel,
        "sqlalchemy": guarded.version,
        "epoch": EPOCH,
        "labels": _labels(manifest, locked, revision, baked),
        "baked": list(baked),
        "trial": manifest.trial,
    }
    return Plan(tags_of(manifest.arch, trial=manifest.trial), variables, files, manifest.trial)


def own_files(locked: Locked, workflows: Mapping[str, str]) -> dict[str, str]:
    """Return the generated files that an instance reads, by their path in it; all but build.json, which lists them."""
    return {
        "opt/gesso/constraints.txt": _constraints(locked),
        "opt/gesso/requirements.txt": _lines(locked.pins),
        **{f"opt/gesso/workflows/{name}": text for name, text in workflows.items()},
    }


def build_record(
    manifest: Manifest,
    locked: Locked,
    workflows: Mapping[str, str],
    baked: Sequence[str] = (),
    spares: Mapping[str, Mapping[str, Any]] | None = None,
    trees: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the content of /opt/gesso/build.json: what is in the image, for users and for the runtime.

    `trees`: as in `plan`. A pack from a folder of the project has no commit in the lock; with the tree ID of what is
    built, an instance notices changes to it, too.
    """
    lock = locked.lock
    by_name = {model.name: model for model in lock.models}
    models = [
        {
            **model.model_dump(include={"name", "kind", "family", "tier", "license", "gated", "allow_pickle"}),
            **by_name[model.name].model_dump(include={"sources", "sha256", "size", "size_confirmed"}),
        }
        for model in manifest.models
    ]
    return {
        "format": 1,
        "gesso": __version__,
        "arch": manifest.arch,
        "title": manifest.title,
        "family": manifest.family,
        "trial": manifest.trial,
        "lock": lock.sha256,
        "base": lock.base.model_dump(exclude_none=True),
        "comfyui": lock.comfyui.model_dump(exclude_none=True),
        "nodes": {
            name: source.model_dump(exclude_none=True) | ({"tree": trees[name]} if trees and name in trees else {})
            for name, source in lock.nodes.items()
        },
        "python": {
            "version": manifest.python.version,
            "pins": {pin.name: pin.version for pin in locked.pins},
        },
        "classes": manifest.classes,
        "vae": manifest.vae,
        "models": models,
        "baked": list(baked),
        "spares": dict(spares or {}),
        "workflows": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in workflows.items()},
        "workflow_titles": {each.name: each.shown_title for each in manifest.workflows},
    }


def _labels(manifest: Manifest, locked: Locked, revision: str | None, baked: Sequence[str]) -> dict[str, str]:
    labels = {
        "org.opencontainers.image.title": f"gesso {manifest.arch}{' (trial)' if manifest.trial else ''}",
        "org.opencontainers.image.description": manifest.title,
        "org.opencontainers.image.version": __version__,
        "dev.gesso.arch": manifest.arch,
        "dev.gesso.trial": str(manifest.trial).lower(),
        "dev.gesso.lock": locked.lock.sha256,
        "dev.gesso.comfyui": locked.lock.comfyui.commit or "stand-in",
        "dev.gesso.baked": str(len(baked)),
        "dev.gesso.sqlalchemy": pin_of(locked.pins, GUARDED).version,
    }
    return labels | ({"org.opencontainers.image.revision": revision} if revision else {})


def _constraints(locked: Locked) -> str:
    return "".join(f"{pin.name}=={pin.version}\n" for pin in locked.pins)


def _lines(pins: tuple[Pin, ...]) -> str:
    return "".join(f"{pin.text}\n" for pin in pins)
