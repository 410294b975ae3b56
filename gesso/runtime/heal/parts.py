"""The other parts of a gesso image: its Python, its code, the workspace, the workflows, the gate, the processes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gesso.errors import CheckError, GessoError
from gesso.runtime.gate import caddy
from gesso.runtime.heal import python, trees
from gesso.runtime.heal.damage import Damage, Outcome
from gesso.runtime.layout import COMFY_PORT
from gesso.runtime.prepare import guard, node_packs, workspace
from gesso.runtime.services import comfyui, krita

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from gesso.runtime.heal.damage import Kind
    from gesso.runtime.heal.runner import OnBytes, OnEvent
    from gesso.runtime.layout import Layout, Record, Spare
    from gesso.runtime.services.supervisord import Supervisor

    OnProgress = Callable[[str], None]

_FRESH = "start a fresh instance of this image"


class Python:
    """ComfyUI's Python: every locked package, byte for byte."""

    what = "python"

    def __init__(self, layout: Layout, record: Record, env: Mapping[str, str]) -> None:
        self._layout, self._record, self._env = layout, record, env
        self._found: dict[str, python.Finding] = {}

    def examine(self, on_bytes: OnBytes) -> list[Damage]:
        """Compare versions with the lock, and every file with its RECORD."""
        self._found = {finding.name: finding for finding in python.examine(self._layout, self._record, on_bytes)}
        return [
            Damage("python", finding.name, f"is {finding.found}, the lock says {finding.locked}",
                   "reinstall it from the wheel in the image" if finding.offline
                   else "reinstall it from the package index, by the lock's hash",
                   restart=True, offline=finding.offline)
            for finding in self._found.values()
        ]  # fmt: skip

    def repair(self, damages: Sequence[Damage], on_event: OnEvent) -> list[Outcome]:
        """Reinstall what differs, one by one: a failure does not stop the others."""
        outcomes = []
        for damage in sorted(damages, key=lambda damage: not damage.offline):
            try:
                finding = self._found[damage.name]
                python.repair(self._layout, self._record, [finding], self._env, _progress_to(on_event))
                if remaining := [f for f in guard.check(self._layout, self._record) if f.name == damage.name]:
                    raise CheckError(f"{remaining[0]}, even after a repair", _FRESH)
            except GessoError as error:
                outcomes.append(Outcome.failed(damage, error))
            else:
                outcomes.append(Outcome(damage, "repaired"))
        return outcomes


class Code:
    """ComfyUI, the node packs and gesso's own files, compared with the copies in the image."""

    what = "code"

    def __init__(self, layout: Layout, record: Record, quarantine: Path, port: int = COMFY_PORT) -> None:
        self._layout, self._record, self._quarantine, self._port = layout, record, quarantine, port
        self._found: dict[str, tuple[Spare, tuple[trees.Difference, ...]]] = {}

    def examine(self, on_bytes: OnBytes) -> list[Damage]:
        """Compare file by file; in an older image, without copies, a difference is found but cannot be repaired."""
        if not self._record.spares:
            changes = (text.partition(": ") for text in node_packs.changed(self._layout, self._record))
            return [Damage("pack", name, change, "", repairable=False, next_step=_FRESH) for name, _, change in changes]
        damages = []
        for number, spare in enumerate(self._record.spares, 1):
            on_bytes(number, len(self._record.spares))
            if differences := trees.differences(self._layout, spare):
                kind = _kind_of(spare)
                self._found[spare.name] = (spare, differences)
                damages.append(Damage(
                    kind, spare.name, _describe(differences),
                    "restore it from the image; the current files are quarantined",
                    restart=kind != "config" or any("workflows/" not in d.path for d in differences),
                    files=tuple(difference.path for difference in differences[:50]),
                ))  # fmt: skip
        return damages

    def repair(self, damages: Sequence[Damage], on_event: OnEvent) -> list[Outcome]:
        """Restore the damaged files, one by one."""
        outcomes = []
        for damage in damages:
            spare, differences = self._found[damage.name]
            try:
                trees.restore(self._layout, spare, differences, self._quarantine, _progress_to(on_event))
                if remaining := trees.differences(self._layout, spare):
                    raise CheckError(f"{spare.name}: {_describe(remaining)}, even after a repair", _FRESH)
                if any("workflows/" in difference.path for difference in differences):
                    self._publish()
            except GessoError as error:
                outcomes.append(Outcome.failed(damage, error))
            else:
                outcomes.append(Outcome(damage, "repaired", f"restored {_files(len(differences))} from the image"))
        return outcomes

    def _publish(self) -> None:
        """Publish the workflows to Krita again: ComfyUI holds a copy. Where it is down, this happens at its start."""
        with contextlib.suppress(CheckError):
            krita.publish(self._layout, self._record, lambda _: None, self._port)


def _kind_of(spare: Spare) -> Kind:
    return {"ComfyUI": "code", "gesso": "config"}.get(spare.name, "pack")  # type: ignore[return-value]


def _describe(differences: Sequence[trees.Difference]) -> str:
    """Describe differences: how many files, and the first of them."""
    labels = {"gone": "missing", "changed": "changed", "extra": "added"}
    counts = {how: sum(d.how == how for d in differences) for how in labels}
    parts = [f"{_files(n)} {labels[how]}" for how, n in counts.items() if n]
    return f"{', '.join(parts)} ({differences[0].path}{', ...' * (len(differences) > 1)})"


def _files(number: int) -> str:
    return f"{number} file{'s' * (number != 1)}"


class Workspace:
    """The folders and links of /workspace, and the locked workflows in both places."""

    what = "workspace"

    def __init__(self, layout: Layout, record: Record) -> None:
        self._layout, self._record = layout, record
        self._copies = {str(copy.target): copy for copy in workspace.workflow_copies(layout, record)}

    def examine(self, _: OnBytes) -> list[Damage]:
        """Compare folders, links and workflows with what the image requires."""
        missing = workspace.missing(self._layout, self._record)
        found = [Damage("layout", str(path), "is missing", "create it") for path in missing]
        for name, copy in self._copies.items():
            try:
                is_current = copy.is_current()
            except OSError as error:
                found.append(Damage("workflow", name, f"cannot be read: {error.strerror}", "restore the locked one"))
                continue
            if not is_current:
                exists = copy.target.exists() or copy.target.is_symlink()
                actual = "is not the locked one" if exists else "is missing"
                backup = "; yours is quarantined" if exists else ""
                found.append(Damage("workflow", name, actual, f"restore the locked one{backup}"))
        return found

    def repair(self, damages: Sequence[Damage], on_event: OnEvent) -> list[Outcome]:
        """Create what is missing, and restore the workflows."""
        outcomes = []
        for damage in damages:
            try:
                if damage.kind == "workflow":
                    copy = self._copies[damage.name]
                    workspace.install_workflow(copy, self._layout, _progress_to(on_event))
                    if not copy.is_current():
                        raise CheckError(f"{damage.name}: the image's own copy is damaged", _FRESH)
                else:
                    workspace.restore(self._layout, self._record, _progress_to(on_event))
            except OSError as error:
                why = f"{error.filename or damage.name}: {error.strerror}"
                outcomes.append(Outcome.failed(damage, CheckError(why, "make room, or check its permissions")))
            except GessoError as error:
                outcomes.append(Outcome.failed(damage, error))
            else:
                outcomes.append(Outcome(damage, "repaired"))
        return outcomes


class Processes:
    """The gate's configuration, the running programs, and whether ComfyUI has the node classes that Krita needs."""

    what = "processes"

    def __init__(
        self, layout: Layout, record: Record, env: Mapping[str, str], supervisor: Supervisor, port: int = COMFY_PORT
    ) -> None:
        self._layout, self._record, self._env, self._supervisor, self._port = layout, record, env, supervisor, port

    def examine(self, _: OnBytes) -> list[Damage]:
        """Query the supervisor and ComfyUI, and check the gate's configuration."""
        found = []
        if not caddy.is_configured(self._layout, self._env):
            found.append(Damage("config", "gate", "its configuration differs from the expected one",
                                "rewrite it and restart the gate"))  # fmt: skip
        try:
            programs = self._supervisor.programs()
        except CheckError:
            return [*found, Damage("service", "supervisor", "does not answer", "restart everything", restart=True)]
        for name in ("agent", "gate", "comfyui"):
            state = programs[name].state if name in programs else "UNKNOWN"
            if state in {"STOPPED", "FATAL", "EXITED", "UNKNOWN"}:
                found.append(Damage("service", name, f"is {state.lower()}", "start it", restart=name == "comfyui"))
        try:
            missing = comfyui.missing_classes(self._record.classes, port=self._port)
        except CheckError:
            return found  # it is starting, or already reported above
        if missing:
            found.append(Damage("service", "comfyui", f"lacks node classes that Krita needs: {', '.join(missing)}",
                                "restart it", restart=True))  # fmt: skip
        return found

    def repair(self, damages: Sequence[Damage], _: OnEvent) -> list[Outcome]:
        """Start what is stopped, except ComfyUI, which has a step of its own."""
        outcomes = []
        for damage in damages:
            try:
                if damage.kind == "config":
                    caddy.configure(self._layout, self._env, caddy.active_token(self._layout, self._env))
                    self._supervisor.terminate("gate")
                elif not damage.restart:
                    self._supervisor.start(damage.name)
            except GessoError as error:
                outcomes.append(Outcome.failed(damage, error))
            else:
                how = "by the restart" if damage.restart else ""
                outcomes.append(Outcome(damage, "repaired", how))
        return outcomes


def _progress_to(on_event: OnEvent) -> OnProgress:
    """Return a progress callback that emits each text as an event."""

    def on_progress(text: str) -> None:
        on_event("said", text=text)

    return on_progress
