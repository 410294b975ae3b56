"""What only the whole manifest can tell: that its models belong together and Krita will find them. Pure.

Each check runs as far as the parts that it needs are sound, so that one typing error does not hide another mistake.
"""

from __future__ import annotations

import contextlib
import typing
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from gesso.manifest.messages import dotted, short
from gesso.manifest.schema import Family, Kind, Tier
from gesso.manifest.yamlsource import Mapping, Problem, locate, plain

if typing.TYPE_CHECKING:
    from collections.abc import Iterable

# The Krita plugin takes the first file under vae/ that one of these is part of for its Flux VAE (1.53.0).
KRITA_FLUX_VAE_PATTERNS = ("flux-", "flux_", "flux/", "flux1", "ae.s")


class _Model(BaseModel):
    """What these checks need of one model; the rest of it may be wrong."""

    name: str
    kind: Kind
    family: Family
    tier: Tier


@dataclass(frozen=True)
class _Whole:
    tree: Mapping
    family: str | None  # None where it is no family at all: the schema says so already
    vae: str | None
    models: dict[int, _Model]  # by their place in the list
    complete: bool  # no model is so wrong that it had to be left out here

    def problem(self, message: str, *path: str | int) -> Problem:
        return Problem(locate(self.tree, path), dotted(self.tree, path), message)


def check(tree: Mapping, *, partial: bool) -> list[Problem]:
    """Check a merged tree.

    Of a `partial` tree a file is missing: what must be somewhere is then not asked for.
    """
    whole = _read(tree)
    found = [*_families(whole), *_traps(whole), *_same_file_twice(whole)]
    if not partial and whole.complete:
        found += [*_locked_vae(whole), *_something_to_run(whole)]
    return found


def _read(tree: Mapping) -> _Whole:
    data = plain(tree)
    family, vae, listed = data.get("family"), data.get("vae"), data.get("models")
    listed = listed if isinstance(listed, list) else []
    models: dict[int, _Model] = {}
    for index, item in enumerate(listed):
        with contextlib.suppress(ValidationError):
            models[index] = _Model.model_validate(item)
    return _Whole(
        tree,
        family if family in typing.get_args(Family) else None,
        vae if isinstance(vae, str) else None,
        models,
        complete=bool(listed) and len(models) == len(listed),
    )


def _families(whole: _Whole) -> Iterable[Problem]:
    allowed = {whole.family, "any", *(["sdxl-refiner"] if whole.family == "sdxl" else [])}
    for index, model in whole.models.items():
        if whole.family is not None and model.family not in allowed:
            message = f"{model.name} is of family {model.family}; this image is locked to {whole.family}"
            yield whole.problem(message, "models", index, "family")


def _traps(whole: _Whole) -> Iterable[Problem]:
    for index, model in whole.models.items():
        other = whole.vae is not None and model.name != whole.vae
        if whole.family == "flux" and model.kind == "vae" and other and _taken_by_krita(model.name):
            message = f"Krita would take {model.name} for the Flux VAE; give it another name"
            yield whole.problem(message, "models", index, "name")


def _taken_by_krita(name: str) -> bool:
    return any(pattern in name for pattern in KRITA_FLUX_VAE_PATTERNS)


def _same_file_twice(whole: _Whole) -> Iterable[Problem]:
    """Names that differ in case alone are one file on some disks, and to some of ComfyUI's lists."""
    seen: dict[str, str] = {}
    for index, model in whole.models.items():
        other = seen.setdefault(model.name.lower(), model.name)
        if other != model.name:
            message = f"differs from {other} in case alone; give it another name"
            yield whole.problem(message, "models", index, "name")


def _locked_vae(whole: _Whole) -> Iterable[Problem]:
    if whole.vae is None:
        return
    at, locked = next(((i, m) for i, m in whole.models.items() if m.name == whole.vae), (0, None))
    if locked is None or locked.kind != "vae":
        yield whole.problem(f"`{short(whole.vae)}` must be the name of a model of kind vae and tier required", "vae")
    elif locked.tier != "required":
        message = f"`{locked.tier}` is not allowed for the locked VAE; must be required"
        yield whole.problem(message, "models", at, "tier")
    elif whole.family == "flux" and not _taken_by_krita(locked.name):
        patterns = " ".join(KRITA_FLUX_VAE_PATTERNS)
        yield whole.problem(f"Krita would not find `{locked.name}`; its name must hold one of {patterns}", "vae")


def _something_to_run(whole: _Whole) -> Iterable[Problem]:
    models = whole.models.values()
    if not any(m.kind in {"checkpoint", "diffusion_model"} and m.tier == "required" for m in models):
        message = "no checkpoint or diffusion_model of tier required: Krita would have nothing to run"
        yield whole.problem(message, "models")
