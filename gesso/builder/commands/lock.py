"""`invoke lock`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import report
from gesso.builder.commands.project import PROJECT, read
from gesso.builder.image import build as image_build
from gesso.builder.lock import lock_files, own_python
from gesso.builder.lock.changes import Moved, changes, difference, markdown, python_changes
from gesso.builder.lock.python_pins import read_pins, usable_pins
from gesso.builder.lock.resolve import Resolver
from gesso.builder.lock.sources import SourceCache
from gesso.dotenv import with_tokens
from gesso.errors import LockError, ManifestError
from gesso.manifest.load import load
from gesso.manifest.lock import usable_lock
from gesso.settings import Selection, cache_root, select

if TYPE_CHECKING:
    from collections.abc import Sequence


def lock(
    arch: str | None, overlays: Sequence[str], *, trial: bool, upgrade: bool, check_only: bool,
    summary: str | None = None,
) -> None:  # fmt: skip
    """Write locks (all, or one architecture's), or with `check_only` report offline whether they are fresh.

    `summary`: a file that receives the changes, in Markdown.
    """
    if summary and (check_only or not Path(summary).absolute().parent.is_dir()):
        raise ManifestError(
            "--summary needs a file in an existing folder, and no --check", "correct --summary, or remove --check"
        )
    archs = [arch] if arch else PROJECT.archs()
    trials = [trial] if arch or trial or overlays else [False, True]
    selections = [select(PROJECT, name, overlays, trial=kind) for name in archs for kind in trials]
    if check_only:
        for selection in selections:
            image_build.prepare(selection)
            report.result(f"fresh: {selection.lock.name}")
        if stale := own_python.stale(PROJECT):
            raise LockError(f"stale: {', '.join(stale)}", "run `invoke lock`")
        return
    moved: list[Moved] = []
    if not overlays:
        for path, text in own_python.make(PROJECT, upgrade=upgrade).items():
            moved.append(Moved(path.name, python_changes(usable_pins(read(path)), read_pins(text))))
            lock_files.replace(path, text)
            report.result(f"wrote {path.relative_to(PROJECT.root)}")
    for selection in selections:
        moved += _lock_one(selection, upgrade=upgrade)
    if summary:
        lock_files.replace(Path(summary).absolute(), markdown(moved))


def _lock_one(selection: Selection, *, upgrade: bool) -> list[Moved]:
    manifest = load(selection.manifest, selection.layers, root=PROJECT.root).manifest
    old, old_pins = usable_lock(selection.lock), usable_pins(read(selection.python_lock))
    sources, tokens = SourceCache(cache_root(os.environ)), with_tokens(PROJECT.root, os.environ)
    resolver = Resolver(selection, manifest, sources, tokens, report.progress, upgrade=upgrade)
    new, text = resolver.resolve()
    changed = lock_files.write(selection, new, text)
    for line in difference(old, new, old_pins, read_pins(text)):
        report.result(line)
    for name, reason in resolver.unconfirmed.items():
        report.result(f"not confirmed: {name}: {reason}")
    report.result(f"{selection.lock.name}: {'written' if changed else 'unchanged'}")
    return [
        Moved(selection.lock.name, changes(old, new) if old else (), tuple(resolver.unconfirmed.items())),
        Moved(selection.python_lock.name, python_changes(old_pins, read_pins(text))),
    ]
