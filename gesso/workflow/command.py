"""`gesso workflow check FILE`: load what to check against, check, and format the result as text or JSON."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from gesso.errors import ManifestError
from gesso.manifest.load import load
from gesso.settings import Project, select
from gesso.workflow import check as checks
from gesso.workflow.arch import Arch, from_manifest, from_record
from gesso.workflow.graph import MAX_BYTES, GraphError
from gesso.workflow.object_info import NodeClasses, recorded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.manifest.schema import Manifest
    from gesso.workflow.check import CheckResult
    from gesso.workflow.user_models import UserModels


def read_text(path: Path) -> str:
    """Read a graph's file.

    Raises GraphError.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise GraphError(f"{path}: larger than {MAX_BYTES // 1_000_000} MB: not a workflow", "give a .json file")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise GraphError(f"{path}: {error.strerror}", "give the path of a workflow's .json file") from None
    except ValueError:
        raise GraphError(f"{path}: not UTF-8 text", "save it from ComfyUI again") from None


def for_host(project: Project, arch: str | None) -> tuple[Arch, NodeClasses]:
    """Load what to check against outside an image: the project's manifest and the recorded classes.

    Raises ManifestError where no architecture is named, or the manifest is wrong.
    """
    if arch is None:
        raise ManifestError("which image is the workflow for?", f"add --arch: one of {', '.join(project.archs())}")
    selection = select(project, arch)
    manifest = load(selection.manifest, selection.layers, root=project.root).manifest
    return for_manifest(project, manifest), recorded(project.images)


def for_manifest(project: Project, manifest: Manifest) -> Arch:
    """Return what a graph for this manifest is checked against; the project's others identify foreign files."""
    others = []
    for name in project.archs():
        with contextlib.suppress(ManifestError):  # reported when that image is built
            others.append(load(project.manifests / f"{name}.yaml", root=project.root).manifest)
    return from_manifest(manifest, others)


def for_image(record: dict[str, Any], arch: str | None, object_info: Callable[[], Any]) -> tuple[Arch, NodeClasses]:
    """Load what to check against in an image: its build record, and the classes of the running ComfyUI, if any.

    Raises ManifestError where `arch` is not the image's.
    """
    found = from_record(record)
    if arch not in {None, found.name}:
        raise ManifestError(f"--arch {arch}: this image is {found.name}", "leave --arch out")
    raw = object_info()
    return found, NodeClasses(raw if isinstance(raw, dict) else {})


def check_file(
    path: Path, arch: Arch, classes: NodeClasses, user_models: UserModels = checks.NO_USER_MODELS
) -> CheckResult:
    """Check one file.

    Raises GraphError.
    """
    graph = checks.read(read_text(path), str(path), classes)
    return checks.check(graph, classes, arch, user_models=user_models)


def as_json(checked: CheckResult, *, strict: bool) -> dict[str, Any]:
    """Return the documented keys of `--json`."""
    return {
        "ok": not fails(checked, strict=strict),
        "file": checked.graph.file,
        "format": checked.graph.format,
        "nodes": len(checked.graph.nodes),
        "findings": [finding.as_json() for finding in checked.findings],
    }


def as_text(checked: CheckResult) -> str:
    """Format the findings, one a line, errors first, or `ok`."""
    lines = [str(f) for f in sorted(checked.findings, key=lambda finding: not finding.is_error)]
    count = Counter(finding.severity for finding in checked.findings)
    if count:
        lines.append(f"{count['error']} wrong, {count['unknown']} unclear; {len(checked.graph.nodes)} nodes")
    return "\n".join(lines) or f"ok: {checked.graph.file}: {len(checked.graph.nodes)} nodes"


def fails(checked: CheckResult, *, strict: bool) -> bool:
    """Decide whether the command fails: on errors, and if strict also on unclear findings."""
    return bool(checked.findings if strict else checked.errors)


def check_project(project: Project, manifest: Manifest, texts: dict[str, str]) -> list[str]:
    """Check a project's graphs, each in both formats (`x.json`, `x.api.json`); unclear findings count as errors."""
    arch, classes = for_manifest(project, manifest), recorded(project.images)
    problems: list[str] = []
    graphs = {}
    for name, text in texts.items():
        try:
            graphs[name] = checks.read(text, f"workflows/{name}", classes)
        except GraphError as error:
            problems.append(str(error))
            continue
        problems += map(str, checks.check(graphs[name], classes, arch).findings)
    for name, graph in graphs.items():
        other = graphs.get(f"{name.removesuffix('.json')}.api.json")
        if other is not None:
            swapped = [(g, kind) for g, kind in ((graph, "editor"), (other, "api")) if g.format != kind]
            problems += [f"{g.file}: is in {g.format} format; must be in {kind} format" for g, kind in swapped]
            problems += [] if swapped else map(str, checks.differences(graph, other))
    return problems
