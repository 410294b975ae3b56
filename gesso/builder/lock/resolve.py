"""`invoke lock`: resolve a manifest to a lock. What an unreachable host cannot confirm is kept and reported."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests

from gesso.builder.lock import python_pins, remote_facts
from gesso.errors import FetchError, LockError
from gesso.manifest.lock import (
    Lock,
    LockedBase,
    LockedModel,
    LockedPython,
    LockedSource,
    checksum,
    inputs_of,
    source_of,
    usable_lock,
)
from gesso.manifest.schema import LOOPBACK_HOSTS
from gesso.settings import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gesso.builder.lock.sources import SourceCache
    from gesso.manifest.schema import Manifest, Model, Node, Source


@dataclass
class Resolver:
    """Resolves one lock; `unconfirmed` collects what could not be confirmed, and why."""

    selection: Selection
    manifest: Manifest
    sources: SourceCache
    env: Mapping[str, str]
    on_progress: Callable[[str], None]
    upgrade: bool = False
    unconfirmed: dict[str, str] = field(default_factory=dict)

    def resolve(self) -> tuple[Lock, str]:
        """Return the new lock and the text of its Python lock; nothing is written.

        Raises LockError and FetchError.
        """
        old = self._old_lock()
        base = self._base(old)
        comfyui, requirements = self._source(
            "ComfyUI", self.manifest.comfyui, "requirements.txt", old.comfyui if old else None
        )
        nodes: dict[str, LockedSource] = {}
        texts = {"ComfyUI": requirements or ""}
        for node in self.manifest.nodes:
            locked, text = self._source(node.name, node, node.requirements, old.nodes.get(node.name) if old else None)
            nodes[node.name] = locked
            texts[node.name] = text or ""
        python, text = self._python(texts, old)
        models = self._models(old)
        never = [name for name in self.unconfirmed if not _confirmed_before(name, self.manifest, old)]
        lock = Lock(
            arch=self.manifest.arch,
            inputs=inputs_of(self.manifest),
            base=base,
            comfyui=comfyui,
            nodes=nodes,
            python=python,
            models=models,
            unconfirmed=tuple(sorted(never)),
        )
        return lock, text

    def _old_lock(self) -> Lock | None:
        """Return the lock to start from: its own, else that without overlays, else another architecture's (they differ
        in their models only)."""
        project, trial = self.selection.project, self.selection.trial
        others = [Selection(project, arch, (), trial) for arch in project.archs()]
        for selection in dict.fromkeys((self.selection, self.selection.without_overlays, *others)):
            if lock := usable_lock(selection.lock):
                return lock
            if selection.lock.is_file():
                self.on_progress(f"{selection.lock.name} cannot be read; ignored")
        return None

    def _base(self, old: Lock | None) -> LockedBase:
        base = self.manifest.base
        if base.image is None:
            return LockedBase(bootstrap=base.bootstrap)
        known = old.base.digest if old and old.base.image == base.image else None
        self.on_progress(f"base {base.image}")
        try:
            return LockedBase(image=base.image, digest=remote_facts.query_registry(base.image))
        except remote_facts.OutOfReachError as error:
            if known is None:
                raise LockError(f"{base.image}: no digest, and none was locked before ({error})", _ONLINE) from None
            self.unconfirmed["base"] = str(error)
            return LockedBase(image=base.image, digest=known)

    def _source(
        self, name: str, source: Source | Node, requirements: str | None, old: LockedSource | None
    ) -> tuple[LockedSource, str | None]:
        requested = source_of(source)
        if requested.path is not None:
            return requested, self._file_of_project(name, requested.path, requirements)
        self.on_progress(f"source {name} at {(requested.ref or '')[:12]}")
        try:
            peek = self.sources.peek(requested, requirements)
        except FetchError as error:
            same = old is not None and (old.git, old.ref) == (requested.git, requested.ref)
            if old is None or not same:
                raise
            self.unconfirmed[f"nodes {name}" if name in self._packs else "comfyui"] = error.message
            return old, None
        return requested.model_copy(update={"commit": peek.commit, "tree": peek.tree}), peek.requirements

    def _file_of_project(self, name: str, path: str, requirements: str | None) -> str | None:
        folder = self.selection.project.root / path
        if not folder.is_dir():
            raise LockError(f"{name}: no such folder: {path}", "correct `path` in the manifest")
        file = folder / requirements if requirements else None
        return file.read_text(encoding="utf-8") if file is not None and file.is_file() else None

    def _python(self, texts: Mapping[str, str], old: Lock | None) -> tuple[LockedPython, str]:
        """Resolve Python, or keep the locked pins where nothing changed or a source could not be read."""
        python = self.manifest.python
        file = self._existing_python_lock()
        intent = checksum([python.model_dump(exclude={"layers"}), sorted(texts.items())])
        absent = [why for name, why in self.unconfirmed.items() if name == "comfyui" or name.startswith("nodes ")]
        if absent and (old is None or _python_inputs(inputs_of(self.manifest)) != _python_inputs(old.inputs)):
            raise LockError(f"Python's inputs changed, and a source is out of reach: {absent[0]}", _ONLINE)
        fresh = old is not None and old.python.resolved_from == intent
        if file is not None and old is not None and (absent or (fresh and not self.upgrade)):
            text = file.read_text(encoding="utf-8", errors="replace")
            if _digest(text) == old.python.sha256:
                return old.python.model_copy(update={"file": self.selection.python_lock.name}), text
        if absent:  # without its requirements a resolution would be incomplete
            raise LockError(
                f"the Python lock does not match the lock, and a source is out of reach: {absent[0]}",
                _ONLINE,
            )
        self.on_progress(f"Python: resolving {len(texts)} sources")
        existing = file.read_text(encoding="utf-8", errors="replace") if file is not None else None
        text = python_pins.compile_lock(python, texts, existing=existing, upgrade=self.upgrade)
        guarded = python_pins.pin_of(python_pins.read_pins(text), python_pins.GUARDED)
        locked = LockedPython(
            file=self.selection.python_lock.name,
            sha256=_digest(text),
            sqlalchemy=guarded.version,
            resolved_from=intent,
        )
        return locked, text

    def _existing_python_lock(self) -> Path | None:
        for selection in (self.selection, self.selection.without_overlays):
            if selection.python_lock.is_file():
                return selection.python_lock
        return None

    @property
    def _packs(self) -> set[str]:
        return {node.name for node in self.manifest.nodes}

    def _models(self, old: Lock | None) -> tuple[LockedModel, ...]:
        dead: dict[str, str] = {}  # a host that did not respond is not queried for the next file
        now = inputs_of(self.manifest)
        same = {m.name: m for m in (old.models if old else ()) if old and _same(f"models {m.name}", now, old)}
        doubted = {name for name in same if old and f"models {name}" in old.unconfirmed}
        same |= {name: same[name].model_copy(update={"size_confirmed": False}) for name in doubted}
        with requests.Session() as session:
            return tuple(self._model(m, same.get(m.name), session, dead) for m in self.manifest.models)

    def _model(
        self, model: Model, old: LockedModel | None, session: requests.Session, dead: dict[str, str]
    ) -> LockedModel:
        known = old.sources if old else model.sources
        reported: list[int] = []  # sizes from hosts
        proven: list[int] = []  # those that came with the right sha256
        sources, reasons, confirmed = [], [], False
        for url, fallback in zip(model.sources, known, strict=True):
            host = url.split("/")[2]
            if urlsplit(url).hostname in LOOPBACK_HOSTS:  # the trial's own mirror: made from the manifest, not queried
                sources.append(url)
                confirmed = True
                proven += [model.size] if model.size is not None else []
                continue
            try:
                if host in dead:
                    raise remote_facts.OutOfReachError(dead[host], host_is_down=True)
                facts = remote_facts.query_model_host(url, self.env, session)
            except remote_facts.OutOfReachError as error:
                if error.host_is_down:
                    dead[host] = str(error)
                reasons.append(str(error))
                sources.append(fallback)
                continue
            _check_facts(model, facts)
            sources.append(facts.url)
            confirmed = confirmed or facts.sha256 is not None
            if facts.size is not None:
                reported.append(facts.size)
                proven += [facts.size] if facts.sha256 is not None else []
        if not confirmed:
            self.unconfirmed[f"models {model.name}"] = "; ".join(dict.fromkeys(reasons)) or "no host sent a sha256"
        size = model.size or next(iter([*proven, *reported]), None) or (old.size if old else None)
        was_confirmed = old is not None and old.size_confirmed and old.size == size
        return LockedModel(
            name=model.name,
            sources=tuple(sources),
            sha256=model.sha256,
            size=size,
            size_confirmed=len(set(proven)) == 1 if reported or proven else was_confirmed,
        )


def _python_inputs(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the inputs that decide the Python resolution: its own, and every source's, for their requirements."""
    return {k: v for k, v in inputs.items() if k in {"python", "comfyui"} or k.startswith("nodes ")}


def _same(name: str, now: Mapping[str, str], old: Lock) -> bool:
    return now.get(name) == old.inputs.get(name)


def _confirmed_before(name: str, manifest: Manifest, old: Lock | None) -> bool:
    """Check whether an earlier run confirmed an entry that has not changed since."""
    return old is not None and _same(name, inputs_of(manifest), old) and name not in old.unconfirmed


_ONLINE = "run `invoke lock` where the host can be reached"


def _check_facts(model: Model, facts: remote_facts.RemoteFacts) -> None:
    """Raise LockError where a host contradicts the manifest: one of them is wrong about the file."""
    host = facts.url.split("/")[2]
    if facts.sha256 is not None and facts.sha256 != model.sha256:
        raise LockError(f"{model.name}: {host} has sha256 {facts.sha256}, the manifest says {model.sha256}", _CHECK)
    if facts.size is not None and model.size is not None and facts.size != model.size:
        step = _CHECK if facts.sha256 is None else _WRITE.format(facts.size)
        raise LockError(f"{model.name}: {host} has {facts.size:,} bytes, the manifest says {model.size:,}", step)


_WRITE = "its sha256 matches, so the manifest's size is wrong: set `size: {}`"
_CHECK = "check the file's page, then correct the manifest; do not accept a file that you did not choose"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
