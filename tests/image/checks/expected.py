"""What the image should be: read from the manifest, the lock and this checkout. Nothing of it is written here again."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from gesso.builder.image.build import base_reference, decide, prepare, read_workflows
from gesso.builder.image.context import dockerfile, own_wheel
from gesso.builder.image.plan import build_record, own_files

from . import dockerfile as instructions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gesso.builder.lock.lock_files import Locked
    from gesso.manifest.schema import Manifest
    from gesso.settings import Selection

    from .photograph import Photograph

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

    def record(self, photo: Photograph) -> dict[str, Any]:
        """Give the record as it should be: which models were baked is a choice of the build, and in the image."""
        said = record_of(photo)
        baked = [name for name in said.get("baked", []) if name in {model.name for model in self.manifest.models}]
        workflows = read_workflows(self.selection.project, self.manifest)
        made = build_record(self.manifest, self.locked, workflows, baked, said.get("spares", {}))
        whole: dict[str, Any] = json.loads(json.dumps(made))
        return whole

    def steps(self, photo: Photograph) -> tuple[instructions.Step, ...]:
        """Give the instructions that make the final image."""
        decided = decide(
            self.selection.project,
            self.manifest,
            self.locked,
            base=base_reference(self.locked),
            wheel=self.wheel_name,
            baked=self.record(photo)["baked"],
        )
        return instructions.steps(dockerfile(decided, self.selection.project.images))


def expect(selection: Selection) -> Expected:
    """Read everything that an image is held against. No network, no engine."""
    manifest, locked = prepare(selection)
    workflows = read_workflows(selection.project, manifest)
    wheel = own_wheel(selection.project)
    with zipfile.ZipFile(BytesIO(wheel.content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}
    return Expected(selection, manifest, locked, own_files(locked, workflows), wheel.name, files)


def record_of(photo: Photograph) -> dict[str, Any]:
    """Give what the image says of itself; nothing where that cannot be read."""
    try:
        found: dict[str, Any] = json.loads(photo.text(RECORD))
    except ValueError:
        return {}
    return found


def some(problems: Iterable[str]) -> list[str]:
    """Give problems in order, and of very many the first and how many more there are."""
    found = sorted(problems)
    return [*found[:_SHOWN], f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else found
