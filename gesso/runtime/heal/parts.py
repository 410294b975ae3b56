"""The other parts of a gesso image: its Python, its code, the workspace and its workflows, the gate, the processes."""

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
    from gesso.runtime.heal.runner import OnBytes, Tell
    from gesso.runtime.layout import Layout, Record, Spare
    from gesso.runtime.services.supervisord import Supervisor

    Say = Callable[[str], None]

_FRESH = "start a fresh instance of this image"


class Python:
    """ComfyUI's Python: everything that is locked, to the byte."""

    what = "python"

    def __init__(self, layout: Layout, record: Record, env: Mapping[str, str]) -> None:
        self._layout, self._record, self._env = layout, record, env
        self._found: dict[str, python.Finding] = {}

    def examine(self, on_bytes: OnBytes) -> list[Damage]:
        """Compare versions with the lock, and every file with its RECORD."""
        self._found = {finding.name: finding for finding in python.examine(self._layout, self._record, on_bytes)}
        return [
            Damage("python", finding.name, f"is {finding.found}, the lock says {finding.locked}",
                   "install it again from the wheel in the image" if finding.offline
                   else "install it again from the package index, by the lock's hash",
                   restart=True, offline=finding.offline)
            for finding in self._found.values()
        ]  # fmt: skip

    def repair(self, damages: Sequence[Damage], tell: Tell) -> list[Outcome]:
        """Install again what differs, each by itself: one that fails does not keep the others from coming."""
        outcomes = []
        for damage in sorted(damages, key=lambda damage: not damage.offline):
            try:
                finding = self._found[damage.name]
                python.repair(self._layout, self._record, [finding], self._env, _saying(tell))
                if still := [f for f in guard.check(self._layout, self._record) if f.name == damage.name]:
                    raise CheckError(f"{still[0]}, even after a repair", _FRESH)
            except GessoError as error:
                outcomes.append(Outcome.failed(damage, error))
            else:
                outcomes.append(Outcome(damage, "repaired"))
        return outcomes


class Code:
    """ComfyUI, the node packs and gesso's own files, against the copies that the image keeps of them."""

    what = "code"

    def __init__(self, layout: Layout, record: Record, aside: Path, port: int = COMFY_PORT) -> None:
        self._layout, self._record, self._aside, self._port = layout, record, aside, port
        self._found: dict[str, tuple[Spare, tuple[trees.Difference, ...]]] = {}

    def examine(self, on_bytes: OnBytes) -> list[Damage]:
        """Compare file by file; an older image, without copies, only knows that something differs."""
        if not self._record.spares:
            changed = (text.partition(": ") for text in node_packs.changed(self._layout, self._record))
            return [Damage("pack", name, said, "", repairable=False, next_step=_FRESH) for name, _, said in changed]
        damages = []
        for number, spare in enumerate(self._record.spares, 1):
            on_bytes(number, len(self._record.spares))
            if differences := trees.differences(self._layout, spare):
                kind = _kind_of(spare)
                self._found[spare.name] = (spare, differences)
                damages.append(Damage(
                    kind, spare.name, _told(differences), "restore it from the image; what is there now is kept aside",
                    restart=kind != "config" or any("workflows/" not in d.path for d in differences),
                    files=tuple(difference.path for difference in differences[:50]),
                ))  # fmt: skip
        return damages

    def repair(self, damages: Sequence[Damage], tell: Tell) -> list[Outcome]:
        """Put the right files in place, one by one."""
        outcomes = []
        for damage in damages:
            spare, differences = self._found[damage.name]
            try:
                trees.restore(self._layout, spare, differences, self._aside, _saying(tell))
                if still := trees.differences(self._layout, spare):
                    raise CheckError(f"{spare.name}: {_told(still)}, even after a repair", _FRESH)
                if any("workflows/" in difference.path for difference in differences):
                    self._publish()
            except GessoError as error:
                outcomes.append(Outcome.failed(damage, error))
            else:
                outcomes.append(Outcome(damage, "repaired", f"restored {_files(len(differences))} from the image"))
        return outcomes

    def _publish(self) -> None:
        """Hand the workflows to Krita again, which ComfyUI keeps as it was given them; where it is down, it will be."""
        with contextlib.suppress(CheckError):
            krita.publish(self._layout, self._record, lambda _: None, self._port)


def _kind_of(spare: Spare) -> Kind:
    return {"ComfyUI": "code", "gesso": "config"}.get(spare.name, "pack")  # type: ignore[return-value]


def _told(differences: Sequence[trees.Difference]) -> str:
    """Say what differs: how many files, and the first of them."""
    words = {"gone": "gone", "changed": "changed", "extra": "too many"}
    counts = {how: sum(d.how == how for d in differences) for how in words}
    parts = [f"{_files(n)} {words[how]}" for how, n in counts.items() if n]
    return f"{', '.join(parts)} ({differences[0].path}{', ...' * (len(differences) > 1)})"


def _files(number: int) -> str:
    return f"{number} file{'s' * (number != 1)}"


class Workspace:
    """The folders and links of /workspace, and the locked workflows in both their places."""

    what = "workspace"

    def __init__(self, layout: Layout, record: Record) -> None:
        self._layout, self._record = layout, record
        self._places = {str(place.target): place for place in workspace.places(layout, record)}

    def examine(self, _: OnBytes) -> list[Damage]:
        """Compare."""
        lacking = workspace.lacking(self._layout, self._record)
        found = [Damage("layout", str(path), "is not there", "make it again") for path in lacking]
        for name, place in self._places.items():
            try:
                right = place.right()
            except OSError as error:
                found.append(Damage("workflow", name, f"cannot be read: {error.strerror}", "put the locked one there"))
                continue
            if not right:
                there = place.target.exists() or place.target.is_symlink()
                said = "is not the locked one" if there else "is not there"
                kept = "; yours is kept aside" if there else ""
                found.append(Damage("workflow", name, said, f"put the locked one there{kept}"))
        return found

    def repair(self, damages: Sequence[Damage], tell: Tell) -> list[Outcome]:
        """Make what lacks, and put the graphs back."""
        outcomes = []
        for damage in damages:
            try:
                if damage.kind == "workflow":
                    place = self._places[damage.name]
                    workspace.put(place, self._layout, _saying(tell))
                    if not place.right():
                        raise CheckError(f"{damage.name}: the image's own copy is damaged", _FRESH)
                else:
                    workspace.restore(self._layout, self._record, _saying(tell))
            except OSError as error:
                why = f"{error.filename or damage.name}: {error.strerror}"
                outcomes.append(Outcome.failed(damage, CheckError(why, "make room, or look at its permissions")))
            except GessoError as error:
                outcomes.append(Outcome.failed(damage, error))
            else:
                outcomes.append(Outcome(damage, "repaired"))
        return outcomes


class Processes:
    """The gate's configuration, what runs, and whether ComfyUI has what Krita needs."""

    what = "processes"

    def __init__(
        self, layout: Layout, record: Record, env: Mapping[str, str], supervisor: Supervisor, port: int = COMFY_PORT
    ) -> None:
        self._layout, self._record, self._env, self._supervisor, self._port = layout, record, env, supervisor, port

    def examine(self, _: OnBytes) -> list[Damage]:
        """Ask the supervisor and ComfyUI, and look at the gate's configuration."""
        found = []
        if not caddy.configured(self._layout, self._env):
            found.append(Damage("config", "gate", "its configuration is not what it should be",
                                "write it again and restart the gate"))  # fmt: skip
        try:
            programs = self._supervisor.programs()
        except CheckError:
            return [*found, Damage("service", "supervisor", "does not answer", "start everything again", restart=True)]
        for name in ("agent", "gate", "comfyui"):
            state = programs[name].state if name in programs else "UNKNOWN"
            if state in {"STOPPED", "FATAL", "EXITED", "UNKNOWN"}:
                found.append(Damage("service", name, f"is {state.lower()}", "start it", restart=name == "comfyui"))
        try:
            missing = comfyui.missing(self._record.classes, port=self._port)
        except CheckError:
            return found  # it is starting, or is among the above
        if missing:
            found.append(Damage("service", "comfyui", f"lacks node classes that Krita needs: {', '.join(missing)}",
                                "start it again", restart=True))  # fmt: skip
        return found

    def repair(self, damages: Sequence[Damage], _: Tell) -> list[Outcome]:
        """Start what stands still, but for ComfyUI, which has a step of its own."""
        outcomes = []
        for damage in damages:
            try:
                if damage.kind == "config":
                    caddy.configure(self._layout, self._env, caddy.in_force(self._layout, self._env))
                    self._supervisor.end("gate")
                elif not damage.restart:
                    self._supervisor.start(damage.name)
            except GessoError as error:
                outcomes.append(Outcome.failed(damage, error))
            else:
                said = "by its restart" if damage.restart else ""
                outcomes.append(Outcome(damage, "repaired", said))
        return outcomes


def _saying(tell: Tell) -> Say:
    def say(text: str) -> None:
        tell("said", text=text)

    return say
