"""gesso's own part: rootfs, generated files, record, workflows, package, baked models, as in this checkout."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gesso.builder.image.own_package import NOT_IN_IMAGE, PACKAGE

from .expected import record_of, some
from .python import OWN_VENV, site

if TYPE_CHECKING:
    from pathlib import Path

    from .expected import Expected
    from .image_snapshot import ImageSnapshot


def record(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Compare the image's own record, key by key."""
    actual, should = record_of(snapshot), expected.record(snapshot)
    return [f"build.json: {key} differs from manifest and lock"
            for key in sorted(actual.keys() | should.keys()) if actual.get(key) != should.get(key)]  # fmt: skip


def generated(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Compare constraints, hashed requirements and workflows with the lock and this checkout."""
    problems = [f"{path} is not as generated" for path, text in expected.texts.items() if snapshot.text(path) != text]
    named = {path.removeprefix("opt/gesso/workflows/") for path in expected.texts}
    return problems + [f"workflow {path} is none of the manifest's"
                       for path, entry in snapshot.below("opt/gesso/workflows/")
                       if entry.kind != "folder" and path not in named]  # fmt: skip


def rootfs(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Compare the copied files: the entry script, the supervisor's configuration, the command."""
    return _folder(snapshot, expected.selection.project.images / "rootfs", "")


def mirror(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Check that a trial has its mirror, as in this checkout, and that no other image has one."""
    present = any(snapshot.below("opt/gesso/mirror/"))
    if not expected.manifest.trial:
        return ["/opt/gesso/mirror: only a trial has that"] if present else []
    folder = expected.selection.project.images / "standin" / "mirror"
    problems = _folder(snapshot, folder, "opt/gesso/mirror/mirror/", without="supervisor.conf")
    return problems + [f"the mirror's {model.name} is not the locked one" for model in expected.manifest.models
                       if _sha256(snapshot, f"opt/gesso/mirror/files/{model.name}") != model.sha256]  # fmt: skip


def package(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Compare gesso's package in its venv with the wheel of this checkout."""
    folder = site(expected, OWN_VENV)
    problems = [f"{name} is not this checkout's" for name, data in expected.wheel.items()
                if _sha256(snapshot, f"{folder}{name}") != hashlib.sha256(data).hexdigest()]  # fmt: skip
    problems += [f"{path} is none of this checkout's" for path, entry in snapshot.below(folder)
                 if path.startswith("gesso/") and entry.kind != "folder" and not path.endswith(".pyc")
                 and path not in expected.wheel]  # fmt: skip
    return some(problems)


def wings(snapshot: ImageSnapshot) -> list[str]:
    """Check that nothing of the builder or of the development tools is anywhere in the image."""
    elsewhere = tuple(f"{PACKAGE}/{room}/" for room in sorted(NOT_IN_IMAGE))
    return some([f"{path}: belongs on the machine that builds" for path, entry in snapshot.files.items()
                 if entry.kind != "folder" and any(f"/{part}" in f"/{path}" for part in elsewhere)])  # fmt: skip


def models(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Compare the baked models with the lock; models that are not recorded as baked must not exist."""
    locked = {model.name: model for model in expected.locked.lock.models}
    baked = record_of(snapshot).get("baked", [])
    problems = []
    for name in baked:
        entry = snapshot.files.get(f"opt/gesso/models/{name}")
        model = locked.get(name)
        if entry is None or model is None:
            problems.append(f"{name}: recorded as baked, but {'not locked' if model is None else 'missing'}")
        elif entry.sha256 != model.sha256 or (model.size_confirmed and model.size != entry.size):
            problems.append(f"{name}: its {entry.size:,} bytes are not those of the lock")
    problems += [f"{path}: baked, but not recorded" for path, entry in snapshot.below("opt/gesso/models/")
                 if entry.kind != "folder" and path not in baked]  # fmt: skip
    return problems


def _sha256(snapshot: ImageSnapshot, path: str) -> str:
    entry = snapshot.files.get(path)
    return entry.sha256 if entry is not None else ""


def _folder(snapshot: ImageSnapshot, folder: Path, target: str, without: str = "") -> list[str]:
    problems = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if "__pycache__" in path.parts or ".ruff_cache" in path.parts or name == without:
            continue
        entry = snapshot.files.get(f"{target}{name}")
        if path.is_symlink():
            same = entry is not None and entry.target == str(path.readlink())
        elif path.is_file():
            same = entry is not None and entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
            same = same and entry is not None and bool(entry.mode & 0o100) == bool(path.stat().st_mode & 0o100)
        else:
            continue
        if not same:
            problems.append(f"/{target}{name} is not as in this checkout")
    return problems
