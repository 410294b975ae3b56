"""`invoke test --arch`, `--real` and `--registry`; `invoke bench`: run pytest or a benchmark as a program."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from gesso import proc, report
from gesso.builder.commands.project import PROJECT
from gesso.builder.image import contract
from gesso.errors import CheckError, ManifestError
from gesso.settings import select

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_image(arch: str, overlays: Sequence[str], options: contract.ContractOptions, *, trial: bool) -> None:
    """Run the contract of a built image, or the part of it that `options` selects."""
    os.chdir(PROJECT.root)
    contract.run(select(PROJECT, arch, overlays, trial=trial), options, os.environ)


def real_run(only: str | None = None) -> None:
    """Run the tests with the real ComfyUI (`only` selects some). Without its sources they are skipped, which fails."""
    missing = [name for name in ("GESSO_COMFYUI", "GESSO_HEADERS") if not os.environ.get(name)]
    if any(name.startswith("GESSO_REAL_IMAGE_") for name in os.environ):
        missing = [name for name in missing if name == "GESSO_HEADERS"]  # the part with a real image needs no checkout
    if missing:
        raise CheckError(
            f"the tests with the real ComfyUI were SKIPPED: {' and '.join(missing)} not set",
            "set the sources as in docs/maintainer.md (Workflows, The real image)",
        )
    selected = ["-k", only] if only else []
    _run("real run", [sys.executable, "-m", "pytest", "tests/real", "-s", "-p", "no:cacheprovider", *selected])


def registry_run(only: str | None = None) -> None:
    """Publish trial images to a real registry on this machine (`only` selects some tests)."""
    selected = ["-k", only] if only else []
    _run("registry tests", [sys.executable, "-m", "pytest", "tests/registry", "-p", "no:cacheprovider", *selected])


def bench(what: str, arch: str, overlays: Sequence[str], *, rounds: int) -> None:
    """Run a benchmark: `image` (build, size, start), `fetch`, `start` (with downloads), `idle` (`rounds` minutes)."""
    if what == "fetch":
        _run("bench", [sys.executable, "-m", "bench.fetch", "--rounds", str(rounds)])
    elif what == "idle":
        _run("bench", [sys.executable, "-m", "bench.idle", arch, str(rounds)])
    elif what in {"image", "start"}:
        selection = select(PROJECT, arch, overlays)
        overlay_paths = [str(path.resolve()) for path in selection.overlays]
        module = {"image": "bench.image_build", "start": "bench.start"}[what]
        _run("bench", [sys.executable, "-m", module, arch, str(rounds), *overlay_paths])
    else:
        raise ManifestError(f"bench {what}: no such benchmark", "choose one of: image, fetch, start, idle")


def _run(name: str, command: Sequence[str]) -> None:
    if not proc.stream(command, report.result, cwd=PROJECT.root).ok:
        raise CheckError(f"{name} failed", "the output above says why")
