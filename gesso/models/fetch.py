"""Fetch models: check existing files, quarantine bad ones, check the disk space, then fetch several at a time.

Two processes, or two containers on one volume, do the work once: who holds a model's lock works on it, the other waits
and finds it done.
"""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from gesso.errors import GessoError
from gesso.models import quarantine
from gesso.models.content import remark
from gesso.models.download import disk_space, finalize
from gesso.models.download.journal import bytes_on_disk, resumable_size
from gesso.models.download.locks import Busy, hold
from gesso.models.download.model_download import ModelDownload, Stopped
from gesso.models.events import Event
from gesso.models.faults import LocalError
from gesso.models.local_disk import disk_error
from gesso.models.net.client import Client
from gesso.models.net.limits import Limits
from gesso.models.tiers import TIERS, in_order
from gesso.models.verify import Verdict, audit, check

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from gesso.manifest.schema import Model
    from gesso.models.folder import Folder

_POLL = 0.1  # seconds


@dataclass(frozen=True)
class Options:
    """How to fetch. `connect` and `stall` in seconds: to connect, and without a byte until a connection is given up."""

    files: int = 3  # at a time
    connect: float = 10.0
    stall: float = 30.0
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Outcome:
    """The result of one model: `error` if it failed, `note` for a remark."""

    model: Model
    state: Literal["there", "fetched", "skipped", "failed"]
    source: str = ""
    received: int = 0
    seconds: float = 0.0
    note: str = ""
    error: GessoError | None = None


def fetch(
    models: Sequence[Model],
    folder: Folder,
    *,
    env: Mapping[str, str],
    on_event: Callable[[Event], None] = lambda _: None,
    options: Options | None = None,
    stop: threading.Event | None = None,
) -> list[Outcome]:
    """Fetch and verify every model; return the outcomes in the order of `models`.

    One that fails does not keep the others from coming. Raises LocalError where the required ones cannot fit on the
    disk, before a byte is fetched, and Stopped (KeyboardInterrupt, too, leaves what was fetched to be resumed).
    """
    chosen = options or Options()
    client = Client(env, connect=chosen.connect, stall=chosen.stall)
    guard = threading.Lock()

    def one_at_a_time(event: Event) -> None:
        with guard:
            on_event(event)

    work = _Work(folder, client, chosen, one_at_a_time, stop or threading.Event())
    done = {outcome.model.name: outcome for outcome in work.look(models)}
    todo = [model for model in models if model.name not in done]
    done |= {outcome.model.name: outcome for outcome in work.make_room(todo)}
    todo = in_order(model for model in todo if model.name not in done)
    for model in todo:
        one_at_a_time(Event(kind="planned", name=model.name, tier=model.tier, size=model.size))
    for tier in TIERS:  # an optional model must not take bandwidth from one that Krita waits for
        if batch := [model for model in todo if model.tier == tier]:
            done |= {outcome.model.name: outcome for outcome in _side_by_side(work, batch, chosen.files)}
    return [done[model.name] for model in models]


def _side_by_side(work: _Work, todo: Sequence[Model], files: int) -> list[Outcome]:
    done = []
    with ThreadPoolExecutor(min(files, len(todo)), "fetch") as pool:
        try:
            waiting: set[Future[Outcome]] = {pool.submit(work.one, model) for model in todo}
            while waiting:
                finished, waiting = wait(waiting, _POLL, FIRST_COMPLETED)
                work.go_on()
                done += [future.result() for future in finished]
        except BaseException:
            work.client.stop()
            pool.shutdown(cancel_futures=True)
            raise
    return done


class _Work:
    """What the steps share."""

    def __init__(
        self, folder: Folder, client: Client, options: Options, on_event: Callable[[Event], None], stop: threading.Event
    ) -> None:
        self.folder, self.client, self.options, self.on_event, self.stop = folder, client, options, on_event, stop

    def go_on(self) -> None:
        """Raise Stopped if a stop was requested."""
        if self.stop.is_set() or self.client.stopped:
            raise Stopped

    def look(self, models: Sequence[Model]) -> list[Outcome]:
        """Check the files at the final paths, and quarantine bad ones.

        Gives those that are right, and those that cannot be put right: something is in the way that cannot be moved.
        """
        asked = {model.name: model for model in models}
        hashed: dict[str, int] = {}

        def on_bytes(name: str, count: int) -> None:
            self.go_on()
            hashed[name] = hashed.get(name, 0) + count
            model = asked[name]
            self.on_event(Event(kind="checking", name=name, tier=model.tier, size=model.size, done=hashed[name]))

        outcomes = []
        for model, verdict in zip(models, audit(models, self.folder, on_bytes=on_bytes), strict=True):
            if verdict.ok:
                self._tidy(model)
                outcomes.append(self._there(model, verdict))
            elif verdict.bad and (outcome := self._clear(model)):
                outcomes.append(outcome)
        return outcomes

    def _clear(self, model: Model) -> Outcome | None:
        """Quarantine a bad file, unless another process repaired it; return the outcome if that is final."""
        try:
            with self._locked(model):
                again = check(model, self.folder, on_bytes=lambda _: self.go_on())
                if again.bad:
                    self._quarantine(model, again)
                return self._there(model, again) if again.ok else None
        except GessoError as error:
            return self._failed(model, error)

    def _tidy(self, model: Model) -> None:
        """Remove what a killed run left beside a good model, unless another process works on it."""
        if self.folder.journal(model.name, model.sha256).exists():
            with contextlib.suppress(GessoError, Busy), self._locked(model, patient=False):
                finalize.remove_leftovers(self.folder, model)

    def _failed(self, model: Model, error: GessoError) -> Outcome:
        self.on_event(
            Event(kind="failed", name=model.name, tier=model.tier, size=model.size, message=str(error),
                  source=getattr(error, "source", ""), fault=getattr(error, "why", ""))
        )  # fmt: skip
        return Outcome(model, "failed", error=error)

    def _there(self, model: Model, verdict: Verdict) -> Outcome:
        self.on_event(Event(kind="there", name=model.name, tier=model.tier, size=verdict.size, done=verdict.size or 0,
                        message=verdict.remark))  # fmt: skip
        return Outcome(model, "there", note="; ".join(filter(None, (verdict.evidence, verdict.remark))))

    def _quarantine(self, model: Model, verdict: Verdict) -> None:
        try:
            kept = quarantine.move(self.folder, model.name, verdict.status)
        except OSError as error:
            raise disk_error(
                error, f"{model.name}: {verdict.status} ({verdict.evidence}), and cannot be moved"
            ) from None
        message = f"{verdict.status}: {verdict.evidence}; now {kept}"
        self.on_event(Event(kind="quarantined", name=model.name, tier=model.tier, message=message))

    def make_room(self, todo: Sequence[Model]) -> list[Outcome]:
        """Check that everything fits on the disk; return the models that are left out.

        Raises LocalError where the required ones do not fit, even without what is in quarantine and the like.
        """
        here, disk_of = {}, {}
        disks: dict[str, Path] = {}
        for model in todo:
            partial, journal = self._partial_of(model)
            hint = model.size or 0
            size = hint if model.size_confirmed else resumable_size(partial, journal, model.sha256) or hint
            here[model.name] = hint - (size - bytes_on_disk(partial, journal, size))  # of the hint, all but what lacks
            folder = _existing(partial.parent)
            device = str(_stat(folder).st_dev)
            disk_of[model.name] = device
            disks.setdefault(device, folder)
        planned = disk_space.plan(todo, here, disk_of, {d: _disk(path) for d, path in disks.items()})
        if (planned.lacking or planned.skip) and self._free(todo):
            planned = disk_space.plan(todo, here, disk_of, {d: _disk(path) for d, path in disks.items()})
        for device, lacking in planned.lacking.items():
            need = sum((m.size or 0) - here[m.name] for m in todo if disk_of[m.name] == device and m.tier == "required")
            raise LocalError(
                "disk-full",
                f"{disks[device]}: the required models need {disk_space.gigabytes(need)} more; "
                f"{disk_space.gigabytes(lacking)} of that do not fit. Nothing was fetched",
                "make room, or take a larger disk",
            )
        by_name = {model.name: model for model in todo}
        for name, why in planned.skip.items():
            self.on_event(
                Event(kind="skipped", name=name, tier=by_name[name].tier, size=by_name[name].size, message=why)
            )
        return [Outcome(by_name[name], "skipped", note=why) for name, why in planned.skip.items()]

    def _free(self, todo: Sequence[Model]) -> bool:
        """Delete quarantined files, and partial files of another lock."""
        freed = quarantine.trim(self.folder, 0) > 0
        for model in todo:
            for path in self.folder.strangers(model.name, model.sha256):
                with contextlib.suppress(GessoError, Busy, OSError), self._locked(model, patient=False):
                    path.unlink()
                    freed = True
        return freed

    def _partial_of(self, model: Model) -> tuple[Path, Path]:
        return self.folder.partial(model.name, model.sha256), self.folder.journal(model.name, model.sha256)

    def one(self, model: Model) -> Outcome:
        """Fetch one model, or wait for another process that does."""
        try:
            with self._locked(model):
                verdict = check(model, self.folder, on_bytes=lambda _: self.go_on())
                if verdict.ok:
                    finalize.remove_leftovers(self.folder, model)
                    return self._there(model, verdict)
                if verdict.bad:
                    self._quarantine(model, verdict)
                got = ModelDownload(model, self.folder, self.client, self.options.limits, self.on_event).run()
                size = _stat(self.folder.path(model.name)).st_size
        except GessoError as error:
            return self._failed(model, error)
        note = remark(model, size)
        self.on_event(Event(kind="done", name=model.name, tier=model.tier, size=size, done=size, source=got.source,
                        message=note))  # fmt: skip
        return Outcome(model, "fetched", got.source, got.received, got.seconds, note)

    def _locked(self, model: Model, *, patient: bool = True) -> contextlib.AbstractContextManager[None]:
        """Hold the model's lock; if another process has it, report that and wait, or raise Busy."""

        def on_wait() -> None:
            self.on_event(Event(kind="waiting", name=model.name, tier=model.tier, size=model.size,
                            message="another process is working on it"))  # fmt: skip

        path, what = self.folder.lock(model.name), f"{model.name}: its lock"
        return hold(path, on_wait, self.go_on, patient=patient, what=what)


def _existing(path: Path) -> Path:
    """Return the nearest existing parent folder: new files in it go to its disk."""
    while not os.path.isdir(path) and path != path.parent:  # noqa: PTH112 - Path.is_dir raises where it may not look
        path = path.parent
    return path


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise disk_error(error, str(path)) from None


def _disk(path: Path) -> disk_space.Disk:
    try:
        found = os.statvfs(path)
    except OSError as error:
        raise disk_error(error, str(path)) from None
    return disk_space.Disk(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
