"""`gesso workflow check FILE`: choose what to compare with, check, and say it in words or as JSON."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from gesso.errors import ManifestError
from gesso.manifest.load import load
from gesso.settings import Project, select
from gesso.workflow import check as checks
from gesso.workflow.arch import Arch, of_manifest, of_record
from gesso.workflow.graph import LARGEST, GraphError
from gesso.workflow.object_info import Classes, recorded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.manifest.schema import Manifest
    from gesso.workflow.check import Checked
    from gesso.workflow.user_models import OwnFiles


def read_text(path: Path) -> str:
    """Read a file that should be a graph.

    Raises GraphError.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise GraphError(f"{path}: larger than {LARGEST // 1_000_000} MB: this is no workflow", "give a .json file")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise GraphError(f"{path}: {error.strerror}", "give the path of a workflow's .json file") from None
    except ValueError:
        raise GraphError(f"{path}: not a text in UTF-8", "save it from ComfyUI again") from None


def on_host(project: Project, arch: str | None) -> tuple[Arch, Classes]:
    """Give what to compare with on a host: the project's manifest and the recorded classes.

    Raises ManifestError where no architecture is named, or the manifest is wrong.
    """
    if arch is None:
        raise ManifestError("which image is the workflow for?", f"add --arch: one of {', '.join(project.archs())}")
    selection = select(project, arch)
    manifest = load(selection.manifest, selection.layers, root=project.root).manifest
    return for_manifest(project, manifest), recorded(project.images)


def for_manifest(project: Project, manifest: Manifest) -> Arch:
    """Give what a graph for this manifest is compared with; the project's others say what a stray file is."""
    others = []
    for name in project.archs():
        with contextlib.suppress(ManifestError):  # it is reported where it is built
            others.append(load(project.manifests / f"{name}.yaml", root=project.root).manifest)
    return of_manifest(manifest, others)


def in_image(record: dict[str, Any], arch: str | None, ask: Callable[[], Any]) -> tuple[Arch, Classes]:
    """Give what to compare with in an image: its record, and the classes of the ComfyUI that runs (`ask`), if any.

    Raises ManifestError where another architecture is named than the image's.
    """
    found = of_record(record)
    if arch not in {None, found.name}:
        raise ManifestError(f"--arch {arch}: this image is {found.name}", "leave --arch out")
    known = ask()
    return found, Classes(known if isinstance(known, dict) else {})


def check_file(path: Path, arch: Arch, classes: Classes, own: OwnFiles = checks.NO_FILES) -> Checked:
    """Check one file.

    Raises GraphError.
    """
    graph = checks.read(read_text(path), str(path), classes)
    return checks.check(graph, classes, arch, own=own)


def as_json(checked: Checked, *, strict: bool) -> dict[str, Any]:
    """Give the documented keys of `--json`."""
    return {
        "ok": not fails(checked, strict=strict),
        "file": checked.graph.file,
        "format": checked.graph.format,
        "nodes": len(checked.graph.nodes),
        "findings": [finding.as_json() for finding in checked.findings],
    }


def as_text(checked: Checked) -> str:
    """Give the findings, one a line, errors first; or that there are none."""
    lines = [str(f) for f in sorted(checked.findings, key=lambda finding: not finding.is_error)]
    count = Counter(finding.severity for finding in checked.findings)
    if count:
        lines.append(f"{count['error']} wrong, {count['unknown']} unclear; {len(checked.graph.nodes)} nodes")
    return "\n".join(lines) or f"ok: {checked.graph.file}: {len(checked.graph.nodes)} nodes"


def fails(checked: Checked, *, strict: bool) -> bool:
    """Tell whether the command should fail: for what is wrong, and when strict also for what is unclear."""
    return bool(checked.findings if strict else checked.errors)


def of_project(project: Project, manifest: Manifest, texts: dict[str, str]) -> list[str]:
    """Check a project's own graphs, each in both formats (`x.json`, `x.api.json`): here the unclear is wrong too."""
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
            wrong_way = [g.file for g, kind in ((graph, "editor"), (other, "api")) if g.format != kind]
            problems += [f"{file}: this is the other of the two formats" for file in wrong_way]
            problems += [] if wrong_way else map(str, checks.differences(graph, other))
    return problems
