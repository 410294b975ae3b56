"""The models as a part of an instance: hash every byte, quarantine bad files, and fetch only those again."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from gesso.models import receipts
from gesso.models.download import disk_space
from gesso.models.fetch import fetch
from gesso.models.verify import audit
from gesso.runtime.heal.damage import Damage, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gesso.manifest.schema import Model
    from gesso.models.events import Event
    from gesso.models.fetch import Outcome as Fetched
    from gesso.models.folder import Folder
    from gesso.models.verify import Verdict
    from gesso.runtime.heal.runner import OnBytes, OnEvent

_REPORT_EVERY = 1.0  # seconds between two progress events of one model


class Models:
    """The models of `folder`."""

    what = "models"

    def __init__(self, models: Sequence[Model], folder: Folder, env: Mapping[str, str]) -> None:
        self._models, self._folder, self._env = {model.name: model for model in models}, folder, env

    def examine(self, on_bytes: OnBytes) -> list[Damage]:
        """Hash every file. A missing optional model that does not fit on the disk is not a damage."""
        guard, done = threading.Lock(), 0
        size = sum(self._size_of(name) for name in self._models)

        def count(_: str, number: int) -> None:
            nonlocal done
            with guard:
                done += number
                on_bytes(done, size)

        verdicts = audit(list(self._models.values()), self._folder, "full", on_bytes=count)
        skipped = self._skipped([v for v in verdicts if not v.ok])
        return [self._damage(v) for v in verdicts if not v.ok and v.name not in skipped]

    def _skipped(self, verdicts: Sequence[Verdict]) -> set[str]:
        models = [self._models[verdict.name] for verdict in verdicts]
        existing = self._folder.root if self._folder.root.is_dir() else self._folder.root.parent
        try:
            disk = os.statvfs(existing)
        except OSError:
            return set()
        disks = {"": disk_space.Disk(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)}
        planned = disk_space.plan(models, {}, dict.fromkeys((m.name for m in models), ""), disks)
        missing = {verdict.name for verdict in verdicts if verdict.status == "missing"}
        return missing & set(planned.skip)

    def _damage(self, verdict: Verdict) -> Damage:
        model = self._models[verdict.name]
        remedy = "quarantine it and fetch it again" if verdict.bad else "fetch it"
        size = f" ({disk_space.gigabytes(model.size)})" if model.size is not None else ""
        found = "is missing" if verdict.status == "missing" else f"{verdict.status}: {verdict.evidence}"
        return Damage("model", model.name, found, f"{remedy}{size}", offline=False, size=model.size,
                      next_step=verdict.next_step)  # fmt: skip

    def _size_of(self, name: str) -> int:
        try:
            return self._folder.path(name).stat().st_size
        except OSError:
            return 0

    def repair(self, damages: Sequence[Damage], on_event: OnEvent) -> list[Outcome]:
        """Fetch them; each replaces the bad file in one step. Raises LocalError where they do not fit on the disk."""
        for damage in damages:  # a receipt that still holds: the bytes changed without a new mtime
            receipts.delete(self._folder, damage.name)
        reported: dict[str, float] = {}

        def on_model(event: Event) -> None:
            now = time.monotonic()
            if (
                event.kind in {"progress", "checking"}
                and now - reported.get(event.name, -_REPORT_EVERY) < _REPORT_EVERY
            ):
                return
            reported[event.name] = now
            on_event("model", **event.as_json())

        models = [self._models[damage.name] for damage in damages]
        fetched = fetch(models, self._folder, env=self._env, on_event=on_model)
        return [_outcome(damage, outcome) for damage, outcome in zip(damages, fetched, strict=True)]


def _outcome(damage: Damage, fetched: Fetched) -> Outcome:
    if fetched.error is not None:
        return Outcome.failed(damage, fetched.error)
    if fetched.state == "skipped":
        return Outcome(damage, "left", fetched.note, "make room, or take a larger disk")
    how = f"fetched from {fetched.source}" if fetched.state == "fetched" else "already in place and verified"
    if fetched.state == "fetched" and fetched.note:
        how = f"{how}; {fetched.note}"
    return Outcome(damage, "repaired", how, received=fetched.received)
