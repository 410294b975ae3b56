"""Checks across several keys of a manifest: its models are compatible, and Krita will find them. Pure.

Each check runs if the keys that it needs are valid, so that one typing error does not hide another mistake.
"""

from __future__ import annotations

import contextlib
import typing
from dataclasses import dataclass

from pydantic import BaseModel, TypeAdapter, ValidationError

from gesso.manifest.graph_tab import client_id
from gesso.manifest.messages import dotted_path, shorten
from gesso.manifest.schema import BY_THE_LOCK, Family, Kind, Tier
from gesso.manifest.workflows import Workflow, WorkflowItem
from gesso.manifest.yamlsource import Mapping, Problem, locate, plain

if typing.TYPE_CHECKING:
    from collections.abc import Iterable

_WORKFLOW: TypeAdapter[Workflow] = TypeAdapter(WorkflowItem)
# The Krita plugin (1.53.0) uses the first file under vae/ whose name contains one of these as its Flux VAE.
KRITA_FLUX_VAE_PATTERNS = ("flux-", "flux_", "flux/", "flux1", "ae.s")


class _Model(BaseModel):
    """The keys of a model that these checks need; the others may be invalid."""

    name: str
    kind: Kind
    family: Family
    tier: Tier


@dataclass(frozen=True)
class _ManifestView:
    tree: Mapping
    family: str | None  # None if it is not a family: the schema reports that
    vae: str | None
    models: dict[int, _Model]  # by their index in the list
    complete: bool  # no model was too invalid to be included

    def problem(self, message: str, *path: str | int) -> Problem:
        return Problem(locate(self.tree, path), dotted_path(self.tree, path), message)


def check(tree: Mapping, *, partial: bool) -> list[Problem]:
    """Check a merged tree.

    If the tree is `partial` (a file could not be read), nothing is reported as missing.
    """
    view = _read(tree)
    found = [
        *_families(view), *_krita_vae_names(view), *_same_file_twice(view), *_set_by_lock(view),
        *_workflows_alike(view),
    ]  # fmt: skip
    if not partial and view.complete:
        found += [*_locked_vae(view), *_runnable_model(view)]
    return found


def _read(tree: Mapping) -> _ManifestView:
    data = plain(tree)
    family, vae, listed = data.get("family"), data.get("vae"), data.get("models")
    listed = listed if isinstance(listed, list) else []
    models: dict[int, _Model] = {}
    for index, item in enumerate(listed):
        with contextlib.suppress(ValidationError):
            models[index] = _Model.model_validate(item)
    return _ManifestView(
        tree,
        family if family in typing.get_args(Family) else None,
        vae if isinstance(vae, str) else None,
        models,
        complete=bool(listed) and len(models) == len(listed),
    )


def _families(view: _ManifestView) -> Iterable[Problem]:
    allowed = {view.family, "any", *(["sdxl-refiner"] if view.family == "sdxl" else [])}
    for index, model in view.models.items():
        if view.family is not None and model.family not in allowed:
            message = f"{model.name} is of family {model.family}; this image is locked to {view.family}"
            yield view.problem(message, "models", index, "family")


def _krita_vae_names(view: _ManifestView) -> Iterable[Problem]:
    for index, model in view.models.items():
        other = view.vae is not None and model.name != view.vae
        if view.family == "flux" and model.kind == "vae" and other and _matches_krita_flux_vae(model.name):
            message = f"Krita would use {model.name} as the Flux VAE; give it another name"
            yield view.problem(message, "models", index, "name")


def _matches_krita_flux_vae(name: str) -> bool:
    return any(pattern in name for pattern in KRITA_FLUX_VAE_PATTERNS)


def _same_file_twice(view: _ManifestView) -> Iterable[Problem]:
    """Report names that differ only in case: on some file systems and in some of ComfyUI's lists they are one file."""
    seen: dict[str, str] = {}
    for index, model in view.models.items():
        other = seen.setdefault(model.name.lower(), model.name)
        if other != model.name:
            message = f"differs from {other} only in case; give it another name"
            yield view.problem(message, "models", index, "name")


def _set_by_lock(view: _ManifestView) -> Iterable[Problem]:
    listed = plain(view.tree).get("models")
    for index, item in enumerate(listed if isinstance(listed, list) else []):
        for key in BY_THE_LOCK:
            if isinstance(item, dict) and key in item:
                yield view.problem("is set by `invoke lock`; remove it", "models", index, key)


def _workflows_alike(view: _ManifestView) -> Iterable[Problem]:
    """Report workflows that Krita could not tell apart: it lists them by title, and keeps one for each ID."""
    listed = plain(view.tree).get("workflows")
    ids: dict[str, str] = {}
    titles: dict[str, str] = {}
    for index, item in enumerate(listed if isinstance(listed, list) else []):
        try:
            found = _WORKFLOW.validate_python(item)
        except ValidationError:
            continue
        if other := ids.get(client_id(found.name)):
            message = "is listed twice" if other == found.name else f"has the same ID in Krita as {other}; rename one"
            yield view.problem(f"{found.name} {message}", "workflows", index, "name")
        elif other := titles.get(found.shown_title):
            message = f"`{found.shown_title}` is the title of {other} too; give each its own"
            yield view.problem(message, "workflows", index, "title")
        ids.setdefault(client_id(found.name), found.name)
        titles.setdefault(found.shown_title, found.name)


def _locked_vae(view: _ManifestView) -> Iterable[Problem]:
    if view.vae is None:
        return
    at, locked = next(((i, m) for i, m in view.models.items() if m.name == view.vae), (0, None))
    if locked is None or locked.kind != "vae":
        yield view.problem(f"`{shorten(view.vae)}` must be the name of a model of kind vae and tier required", "vae")
    elif locked.tier != "required":
        message = f"`{locked.tier}` is not allowed for the locked VAE; must be required"
        yield view.problem(message, "models", at, "tier")
    elif view.family == "flux" and not _matches_krita_flux_vae(locked.name):
        patterns = " ".join(KRITA_FLUX_VAE_PATTERNS)
        yield view.problem(f"Krita would not find `{locked.name}`; its name must contain one of {patterns}", "vae")


def _runnable_model(view: _ManifestView) -> Iterable[Problem]:
    models = view.models.values()
    if not any(m.kind in {"checkpoint", "diffusion_model"} and m.tier == "required" for m in models):
        message = "no checkpoint or diffusion_model of tier required: Krita would have nothing to run"
        yield view.problem(message, "models")
