"""What the image should be: read from the manifest, the lock and this checkout; nothing is duplicated here."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from gesso.builder.image.build import base_reference, decide, prepare, project_trees, read_workflows
from gesso.builder.image.context import dockerfile
from gesso.builder.image.own_package import own_wheel
from gesso.builder.image.plan import build_record, own_files

from . import dockerfile as instructions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gesso.builder.lock.lock_files import Locked
    from gesso.manifest.schema import Manifest
    from gesso.settings import Selection

    from .image_snapshot import ImageSnapshot

RECORD = "opt/gesso/build.json"
_SHOWN = 12


@dataclass(frozen=True)
class Expected:
    """One image as it should be. `texts` are gesso's generated files by path, `wheel` its own package's files."""

    selection: Selection
    manifest: Manifest
    locked: Locked
    texts: dict[str, str]
    wheel_name: str
    wheel: dict[str, bytes]

    def record(self, snapshot: ImageSnapshot) -> dict[str, Any]:
        """Return the expected record: which models were baked is a choice of the build, and read from the image."""
        recorded = record_of(snapshot)
        baked = [name for name in recorded.get("baked", []) if name in {model.name for model in self.manifest.models}]
        workflows = read_workflows(self.selection.project, self.manifest)
        trees = project_trees(self.selection.project, self.manifest, self.locked)
        built = build_record(self.manifest, self.locked, workflows, baked, recorded.get("spares", {}), trees)
        record: dict[str, Any] = json.loads(json.dumps(built))
        return record

    def steps(self, snapshot: ImageSnapshot) -> tuple[instructions.Step, ...]:
        """Return the instructions that make the final image."""
        decided = decide(
            self.selection.project,
            self.manifest,
            self.locked,
            base=base_reference(self.locked),
            wheel=self.wheel_name,
            baked=self.record(snapshot)["baked"],
        )
        return instructions.steps(dockerfile(decided, self.selection.project.images))


def expect(selection: Selection) -> Expected:
    """Read all expectations. Uses no network and no engine."""
    manifest, locked = prepare(selection)
    workflows = read_workflows(selection.project, manifest)
    wheel = own_wheel(selection.project)
    with zipfile.ZipFile(BytesIO(wheel.content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}
    return Expected(selection, manifest, locked, own_files(locked, workflows), wheel.name, files)


def record_of(snapshot: ImageSnapshot) -> dict[str, Any]:
    """Return the image's own record; {} if it cannot be read."""
    try:
        found: dict[str, Any] = json.loads(snapshot.text(RECORD))
    except ValueError:
        return {}
    return found


def some(problems: Iterable[str]) -> list[str]:
    """Sort problems; of too many, return the first and the number of the others."""
    found = sorted(problems)
    return [*found[:_SHOWN], f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else found
