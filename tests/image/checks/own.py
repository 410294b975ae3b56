"""gesso's own part: rootfs, generated files, record, workflows, package, baked models, as this checkout has them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from .expected import record_of, some
from .python import OWN_VENV, site

if TYPE_CHECKING:
    from pathlib import Path

    from .expected import Expected
    from .photograph import Photograph


def record(photo: Photograph, expected: Expected) -> list[str]:
    """Compare what the image says of itself, key by key."""
    said, should = record_of(photo), expected.record(photo)
    return [f"build.json: {key} is not what manifest and lock say"
            for key in sorted(said.keys() | should.keys()) if said.get(key) != should.get(key)]  # fmt: skip


def generated(photo: Photograph, expected: Expected) -> list[str]:
    """Compare constraints, hashed requirements and workflows with what the lock and this checkout hold."""
    problems = [f"{path} is not as generated" for path, text in expected.texts.items() if photo.text(path) != text]
    named = {path.removeprefix("opt/gesso/workflows/") for path in expected.texts}
    return problems + [f"workflow {path} is none of the manifest's"
                       for path, entry in photo.below("opt/gesso/workflows/")
                       if entry.kind != "folder" and path not in named]  # fmt: skip


def rootfs(photo: Photograph, expected: Expected) -> list[str]:
    """Compare what is copied in as it is: the entry script, the supervisor's configuration, the command."""
    return _folder(photo, expected.selection.project.images / "rootfs", "")


def mirror(photo: Photograph, expected: Expected) -> list[str]:
    """See that a trial has its mirror, as it is in this checkout, and that nothing else has one."""
    there = any(photo.below("opt/gesso/mirror/"))
    if not expected.manifest.trial:
        return ["/opt/gesso/mirror: only a trial has that"] if there else []
    folder = expected.selection.project.images / "standin" / "mirror"
    problems = _folder(photo, folder, "opt/gesso/mirror/mirror/", without="supervisor.conf")
    return problems + [f"the mirror's {model.name} is not the locked one" for model in expected.manifest.models
                       if _sha256(photo, f"opt/gesso/mirror/files/{model.name}") != model.sha256]  # fmt: skip


def package(photo: Photograph, expected: Expected) -> list[str]:
    """Compare gesso's package in its venv with the wheel of this checkout."""
    folder = site(expected, OWN_VENV)
    problems = [f"{name} is not this checkout's" for name, data in expected.wheel.items()
                if _sha256(photo, f"{folder}{name}") != hashlib.sha256(data).hexdigest()]  # fmt: skip
    problems += [f"{path} is none of this checkout's" for path, entry in photo.below(folder)
                 if path.startswith("gesso/") and entry.kind != "folder" and not path.endswith(".pyc")
                 and path not in expected.wheel]  # fmt: skip
    return some(problems)


def models(photo: Photograph, expected: Expected) -> list[str]:
    """Compare the baked models with the lock; what is not said to be baked must not be there."""
    wanted = {model.name: model for model in expected.locked.lock.models}
    baked = record_of(photo).get("baked", [])
    problems = []
    for name in baked:
        entry = photo.files.get(f"opt/gesso/models/{name}")
        model = wanted.get(name)
        if entry is None or model is None:
            problems.append(f"{name}: said to be baked, and {'not locked' if model is None else 'missing'}")
        elif entry.sha256 != model.sha256 or model.size not in {None, entry.size}:
            problems.append(f"{name}: its {entry.size:,} bytes are not those of the lock")
    problems += [f"{path}: baked, and the record does not say so" for path, entry in photo.below("opt/gesso/models/")
                 if entry.kind != "folder" and path not in baked]  # fmt: skip
    return problems


def _sha256(photo: Photograph, path: str) -> str:
    entry = photo.files.get(path)
    return entry.sha256 if entry is not None else ""


def _folder(photo: Photograph, folder: Path, target: str, without: str = "") -> list[str]:
    problems = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if "__pycache__" in path.parts or ".ruff_cache" in path.parts or name == without:
            continue
        there = photo.files.get(f"{target}{name}")
        if path.is_symlink():
            same = there is not None and there.target == str(path.readlink())
        elif path.is_file():
            same = there is not None and there.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
            same = same and there is not None and bool(there.mode & 0o100) == bool(path.stat().st_mode & 0o100)
        else:
            continue
        if not same:
            problems.append(f"/{target}{name} is not as in this checkout")
    return problems
