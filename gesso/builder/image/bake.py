"""`--bake`: choose the models that become layers of the image, and fetch them into the store."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.builder.image import trial
from gesso.dotenv import with_tokens
from gesso.errors import BuildError, ManifestError
from gesso.models.download.disk_space import gigabytes
from gesso.models.fetch import fetch
from gesso.models.store import store
from gesso.models.tiers import TIERS
from gesso.settings import cache_root

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gesso.manifest.schema import Model
    from gesso.models.events import Event
    from gesso.models.folder import Folder
    from gesso.settings import Project

BAKES = ("none", "required", "all")
LAYER_LIMIT = 10_000_000_000  # bytes in a layer: GHCR's limit


@dataclass(frozen=True)
class Baking:
    """Options of baking. `licenses`: bake their models although they forbid redistribution; `layer_limit`: bytes."""

    which: str = "none"  # one of BAKES
    licenses: tuple[str, ...] = ()
    layer_limit: int = LAYER_LIMIT


@dataclass(frozen=True)
class Baked:
    """Models that are in the store, verified."""

    models: tuple[Model, ...] = ()
    folder: Folder | None = None


def choose(models: Sequence[Model], baking: Baking) -> tuple[Model, ...]:
    """Return the models to bake. Pure.

    Raises ManifestError that lists every model that cannot be baked, and why.
    """
    tiers = {"none": TIERS[:0], "required": TIERS[:1], "all": TIERS}[baking.which]
    chosen = tuple(model for model in models if model.tier in tiers)
    known = {model.license for model in models}
    if unknown := [name for name in baking.licenses if name not in known]:
        raise ManifestError(
            f"--accept-license {unknown[0]}: no model has this licence", f"known: {', '.join(sorted(known))}"
        )
    problems = [problem for model in chosen for problem in _problems(model, baking)]
    if problems:
        raise ManifestError("\n".join(problems), "or bake fewer: other models are fetched at first boot")
    return chosen


def _problems(model: Model, baking: Baking) -> list[str]:
    found = []
    if model.size is not None and model.size > baking.layer_limit:
        limit = gigabytes(baking.layer_limit)
        found.append(f"{model.name}: {gigabytes(model.size)} are over the registry's limit of {limit} a layer "
                     "(if your registry accepts more, set --layer-limit)")  # fmt: skip
    if not model.redistribute and model.license not in baking.licenses:
        found.append(f"{model.name}: its licence, {model.license}, forbids redistribution "
                     f"(--accept-license {model.license!r}; only if you have permission)")  # fmt: skip
    return found


def bake(
    project: Project,
    models: Sequence[Model],
    env: Mapping[str, str],
    on_event: Callable[[Event], None],
    *,
    is_trial: bool,
) -> Baked:
    """Fetch and verify the models into the store, with the same code as an instance.

    Raises the error of the first model that failed.
    """
    if not models:
        return Baked()
    folder = store(cache_root(env) / "models", models)
    with trial.mirror(project, models) if is_trial else nullcontext():
        outcomes = fetch(models, folder, env=with_tokens(project.root, env), on_event=on_event)
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
        if outcome.state == "skipped":
            raise BuildError(f"{outcome.model.name}: {outcome.note}", "free disk space for the cache (GESSO_CACHE)")
    return Baked(tuple(models), folder)
